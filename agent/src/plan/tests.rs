//! Rules of the plan, as scenarios and as properties.
