//! How a status follows the one before it.
