//! Scripts in `scenarios/*.txt`: each line is something that happens, and indented below it stands what
//! the engine decided. `UPDATE_EXPECT=1` writes the decisions anew.

#[path = "world/event.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod event;
#[path = "world/model.rs"]
#[allow(dead_code, reason = "each test program uses its part of the world")]
mod model;
#[path = "world/script.rs"]
mod script;

use std::path::Path;

use expect_test::expect_file;
use model::World;
use script::played;

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scenarios")
        .join(name);
    let script = std::fs::read_to_string(&path).expect("a scenario");
    let mut world = World::new();
    let text = played(&mut world, &script);
    assert_eq!(world.objection, None, "{text}");
    expect_file![path].assert_eq(&text);
}

macro_rules! scenarios {
    ($($test:ident: $file:literal,)*) => {
        $(#[test]
        fn $test() {
            check($file);
        })*

        #[test]
        fn every_scenario_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
            let mut there: Vec<String> = std::fs::read_dir(folder)
                .expect("the folder of scenarios")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
                .collect();
            there.sort();
            let mut played = vec![$($file.to_owned()),*];
            played.sort();
            assert_eq!(there, played);
        }
    };
}

scenarios! {
    a_release_goes_from_staging_to_production: "staging_to_production.txt",
    a_broken_release_goes_back_and_stays_back: "broken_release.txt",
    a_target_joins_during_a_rollout: "joining_target.txt",
    a_target_that_was_away_gets_only_the_newest: "away_during_two_releases.txt",
    services_come_in_the_order_of_their_dependencies: "dependencies.txt",
    a_person_halts_and_retries: "halt_and_retry.txt",
    a_person_rolls_back: "manual_rollback.txt",
    a_paused_track_starts_nothing: "pause.txt",
    what_was_rolled_back_upstream_comes_no_further: "rolled_back_upstream.txt",
    a_removal_is_held_until_confirmed: "removal.txt",
    a_newer_release_interrupts_between_waves: "superseded.txt",
    a_rollback_that_fails_says_so: "rollback_failed.txt",
    nobody_is_connected: "all_away.txt",
    a_configuration_alone_is_a_deployment: "configuration.txt",
    a_configuration_that_fails_upstream_comes_no_further: "configuration_order.txt",
    a_person_puts_the_configuration_before_back: "configuration_rollback.txt",
    failures_that_are_allowed_do_not_stop_it: "tolerated_failures.txt",
    silence_becomes_failure: "silence.txt",
    the_coordinator_is_killed_during_a_rollout: "restart.txt",
    three_releases_of_a_train_are_in_flight: "release_train.txt",
    a_train_waits_for_its_turn: "train_waits_for_its_turn.txt",
    a_person_promotes: "manual_promotion.txt",
    an_environment_mirrors_another: "mirror.txt",
    a_person_pins: "pin.txt",
    a_pin_does_not_bring_back_what_failed: "pin_of_what_failed.txt",
    the_manifest_pins: "pinned_in_the_manifest.txt",
    a_person_asks_for_a_release: "deploy.txt",
    only_some_versions_may_come: "version_range.txt",
    a_job_runs_once_a_release: "job_once_a_release.txt",
    a_job_runs_on_one_target: "job_on_one_target.txt",
    a_job_runs_on_a_schedule: "job_on_a_schedule.txt",
    a_check_before_a_deployment_stands_until_it_passes: "check_before.txt",
    a_check_after_a_wave_has_to_hold_for_the_soak: "check_after.txt",
    a_check_that_cannot_be_asked_has_not_passed: "check_silent.txt",
    a_check_that_needs_no_asking_is_judged_on_the_spot: "check_instant.txt",
    a_check_that_is_judged_on_the_spot_names_no_time: "check_instant_wakes.txt",
    a_check_is_asked_again_after_a_restart: "check_restart.txt",
    enough_people_of_the_right_role_agree: "approval.txt",
    an_approval_counts_while_whoever_gave_it_may_approve: "approval_of_one_who_left.txt",
    a_person_skips_a_check_for_one_deployment: "skip.txt",
    what_is_stable_has_an_incident: "incident.txt",
    an_incident_puts_the_release_before_back: "incident_rollback.txt",
    nothing_starts_outside_of_the_windows: "window.txt",
    a_rollout_that_its_window_closes_on_goes_back: "window_rollback.txt",
    a_person_freezes_an_environment: "freeze.txt",
    a_policy_forbids_a_release: "policy.txt",
    a_hotfix_passes_what_may_be_skipped: "hotfix.txt",
    who_can_help_is_told_once: "notify.txt",
    no_wave_begins_while_too_many_are_away: "away_budget.txt",
    a_target_that_is_held_keeps_what_it_runs: "held_target.txt",
    waves_go_by_label: "label_waves.txt",
    a_hotfix_passes_no_check_that_only_a_role_may_skip: "hotfix_of_a_role.txt",
    a_place_in_a_wave_by_label_is_kept_for_who_may_be_back: "label_waves_return.txt",
    no_answer_between_two_failures_breaks_no_row: "check_failures_in_a_row.txt",
    a_release_has_to_be_stable_in_both_environments_before: "after_two_environments.txt",
    what_was_asked_for_is_stopped_by_a_failure_that_halts: "asked_and_halted.txt",
    an_incident_waits_for_the_person_who_decides: "incident_while_halted.txt",
    what_goes_back_at_rest_goes_one_after_another: "going_back_at_rest.txt",
}
