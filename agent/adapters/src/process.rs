//! Runtime `process`: a program under supervision, on hosts without anything else.

pub mod spec;
