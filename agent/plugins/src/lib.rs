//! The plugin's side of the plugin protocol, for the plugins that ship.
