# What 7.2's Rust hasn't got and ours uses. What these call is in line.rs.
s/\bEDEADLK\b/crate::line::edeadlk()/g
s/\bEALREADY\b/crate::line::ealready()/g
s/\bpin_init::raw_init\b/crate::line::raw_init/g
