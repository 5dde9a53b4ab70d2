# SPDX-License-Identifier: GPL-2.0-only
"""How Sphinx makes HTML of these pages: `make docs`."""

project = "msm_rs"
html_title = "msm_rs"
html_theme = "furo"
# Pages are the sources that they seem to be: no "smart" quotes or dashes in commands.
smartquotes = False
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
