//! One suite that every adapter passes, through the interface alone.
