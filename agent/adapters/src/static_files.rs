//! Runtime `static`: an archive unpacked and switched to by one symbolic link.

pub mod spec;
