//! What is told of something in AWS: as converge left it, not ready, or changed by somebody. Pure.

use holdfast_plugins::State;

/// What is told, with why or what in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It is as wanted, and works.
    Running,
    /// It is as wanted, and AWS is at it: with what.
    Starting(String),
    /// It is as wanted, and does not work: why.
    Failing(String),
    /// Somebody changed it: what differs.
    Altered(String),
    /// There is none.
    Absent,
}

impl Sight {
    /// The same as the protocol of plugins has it: a state, and a message.
    pub(crate) fn told(self) -> (State, Option<String>) {
        match self {
            Self::Running => (State::Running, None),
            Self::Starting(why) => (State::Starting, Some(why)),
            Self::Failing(why) => (State::Failing, Some(why)),
            Self::Altered(what) => (State::Altered, Some(what)),
            Self::Absent => (State::Absent, None),
        }
    }
}
