//! The link against a coordinator in this process.
