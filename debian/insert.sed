# What several maintainer scripts have in common: theirs can't be in a package that goes.
/^#RENEW#$/{
	r debian/renew
	d
}
