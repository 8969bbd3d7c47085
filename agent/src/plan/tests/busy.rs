//! What is said of a service while something is done about it that was asked for earlier.

use super::*;

/// Release 1 is stable, release 2 is on its way, and release 1 is wanted again: what the runtime was
/// last seen to do is from before release 2 was begun.
fn called_back(doing: impl FnOnce(Digest) -> Doing) -> Status {
    let mut rig = Rig::default();
    rig.want(vec![workload("web", "1")]);
    rig.run(2_000, &Ok(()));
    rig.want(vec![workload("web", "2")]);
    rig.step(Err(Failure::Permanent("no room".to_owned())));
    let body = workload("web", "2").seal().0;
    rig.want(vec![workload("web", "1")]);
    rig.occupy("web", "process");
    rig.busy.get_mut(&name("web")).unwrap().doing = doing(body);
    rig.plan().statuses.remove(&name("web")).unwrap()
}

#[test]
fn what_is_put_back_has_lost_nothing_while_nobody_has_looked() {
    let status = called_back(|body| Doing::Settling { body: Some(body) });
    assert_eq!(status.state, State::Progressing, "{}", status.message);
    assert_eq!(status.message, "looking at what came of it");
}

#[test]
fn what_is_put_back_is_not_ready_before_the_other_has_ended() {
    let status = called_back(|body| Doing::Converging {
        body,
        progress: "half done".to_owned(),
    });
    assert_eq!(status.state, State::Progressing, "{}", status.message);
    assert_eq!(status.message, "another release gives way to it");
}

#[test]
fn what_was_refused_says_why_before_somebody_has_looked() {
    let mut rig = Rig::default();
    rig.want(vec![workload("web", "1")]);
    rig.step(Err(Failure::Permanent("no room".to_owned())));
    let body = workload("web", "1").seal().0;
    rig.occupy("web", "process");
    rig.busy.get_mut(&name("web")).unwrap().doing = Doing::Settling { body: Some(body) };
    let status = rig.plan().statuses.remove(&name("web")).unwrap();
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.message, "no room");
}
