//! From a service as it is to the next step, and what is told of it.

use holdfast_protocol::digest::Digest;
use serde_json::json;

use super::plan::{
    Definition, Life, Refused, Rollout, RolloutState, Seen, Started, Step, Wanted, sight, step,
};
use super::template::{Deployment, read};
use crate::sight::Sight;

fn wanted() -> Wanted {
    let image = format!("registry.example.com/web@{}", Digest::of(b"image"));
    let template = json!({"cluster": "shop", "service": "web", "launch": "ec2", "desired": 2, "keep": 1,
        "containers": [{"name": "web", "image": image, "memory": 64}]});
    let service = read(&template).unwrap();
    Wanted {
        owner: "prod/here/web".to_owned(),
        body: Digest::of(b"body"),
        content: service.task.content(),
        service,
    }
}

fn definition(number: u32) -> Definition {
    Definition {
        arn: format!("web:{number}"),
        content: Some(Digest::of(&number.to_le_bytes())),
    }
}

fn fitting(number: u32) -> Definition {
    Definition {
        content: Some(wanted().content),
        ..definition(number)
    }
}

fn rollout(definition: &Definition, state: RolloutState) -> Rollout {
    Rollout {
        id: format!("deployment of {}", definition.arn),
        definition: definition.arn.clone(),
        state,
        reason: "tasks failed to start".to_owned(),
    }
}

/// A deployment that this converge has begun, and that was shown since.
fn begun(number: u32) -> Started {
    Started {
        id: format!("deployment of web:{number}"),
        was_listed: true,
    }
}

fn seen(definition: &Definition, state: RolloutState) -> Seen {
    Seen {
        arn: "arn:web".to_owned(),
        owner: Some(wanted().owner),
        body: Some(wanted().body),
        life: Life::Active,
        desired: 2,
        running: 2,
        content: definition.content,
        definition: definition.arn.clone(),
        network: None,
        deployment: Some(Deployment::default()),
        has_breaker: true,
        rollouts: vec![rollout(definition, state)],
        event: None,
    }
}

#[test]
fn a_service_is_registered_created_and_waited_for() {
    let wanted = wanted();
    assert_eq!(step(&wanted, None, &[], None), Ok(Step::Register));
    let create = Step::Create {
        definition: "web:1".to_owned(),
    };
    assert_eq!(step(&wanted, None, &[fitting(1)], None), Ok(create));
    let now = seen(&fitting(1), RolloutState::InProgress);
    let waits = step(&wanted, Some(&now), &[fitting(1)], Some(&begun(1)));
    assert!(matches!(waits, Ok(Step::Wait { .. })), "{waits:?}");
    assert!(matches!(sight(&wanted, Some(&now)).0, Sight::Starting(_)));
    let mut done = seen(&fitting(1), RolloutState::Completed);
    assert_eq!(
        step(&wanted, Some(&done), &[fitting(1)], Some(&begun(1))),
        Ok(Step::Done)
    );
    assert_eq!(
        sight(&wanted, Some(&done)),
        (Sight::Running, Some(wanted.body))
    );
    done.body = None;
    assert!(matches!(
        step(&wanted, Some(&done), &[fitting(1)], Some(&begun(1))),
        Ok(Step::Mark { .. })
    ));
    let old = [fitting(4), definition(3), definition(2), definition(1)];
    let now = seen(&fitting(4), RolloutState::Completed);
    let definitions = vec!["web:2".to_owned(), "web:1".to_owned()];
    assert_eq!(
        step(&wanted, Some(&now), &old, Some(&begun(4))),
        Ok(Step::Forget { definitions })
    );
}

#[test]
fn a_deployment_that_ecs_gives_up_has_failed_and_is_tried_again_only_when_asked_again() {
    let (wanted, all) = (wanted(), [fitting(2), definition(1)]);
    // The circuit breaker went back to what was there.
    let mut back = seen(&definition(1), RolloutState::Completed);
    back.rollouts
        .push(rollout(&fitting(2), RolloutState::Failed));
    let Err(Refused(why)) = step(&wanted, Some(&back), &all, Some(&begun(2))) else {
        panic!("it failed");
    };
    assert_eq!(why, "ECS gave up deploying web:2: tasks failed to start");
    // It has cleared away what it began.
    back.rollouts.pop();
    assert!(step(&wanted, Some(&back), &all, Some(&begun(2))).is_err());
    back.rollouts
        .push(rollout(&fitting(2), RolloutState::Failed));
    // One that failed before this converge, or is not shown yet, says nothing of its own.
    let fresh = Started {
        id: "deployment 3".to_owned(),
        was_listed: false,
    };
    assert!(step(&wanted, Some(&back), &all, Some(&fresh)).is_ok());
    assert!(matches!(
        step(&wanted, Some(&back), &all, None),
        Ok(Step::Update { .. })
    ));
    let (Sight::Altered(what), _) = sight(&wanted, Some(&back)) else {
        panic!("it is another one");
    };
    assert_eq!(what, "its task definition is web:1; tasks failed to start");
    let first = seen(&fitting(2), RolloutState::Failed);
    assert!(matches!(sight(&wanted, Some(&first)).0, Sight::Failing(_)));
}

#[test]
fn what_somebody_changed_is_named_and_put_right() {
    let wanted = wanted();
    let mut now = seen(&fitting(1), RolloutState::Completed);
    (now.desired, now.running) = (5, 5);
    let what = "5 tasks are asked for instead of 2".to_owned();
    assert_eq!(sight(&wanted, Some(&now)).0, Sight::Altered(what.clone()));
    let definition = "web:1".to_owned();
    let mend = Step::Update { definition, what };
    assert_eq!(step(&wanted, Some(&now), &[fitting(1)], None), Ok(mend));
    (now.desired, now.running, now.has_breaker) = (2, 2, false);
    let off = Sight::Altered("its circuit breaker is off".to_owned());
    assert_eq!(sight(&wanted, Some(&now)).0, off);
    now.life = Life::Gone;
    assert_eq!(sight(&wanted, Some(&now)).0, Sight::Absent);
    let mut foreign = seen(&fitting(1), RolloutState::Completed);
    foreign.owner = None;
    let Err(Refused(why)) = step(&wanted, Some(&foreign), &[fitting(1)], None) else {
        panic!("it is not ours");
    };
    assert!(
        why.contains("service web of cluster shop is there already"),
        "{why}"
    );
}
