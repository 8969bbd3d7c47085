//! `aws-lambda`: functions whose code is an image. The server keeps and publishes them as Lambda does; it
//! would run them only on a network of its own, so they are not called here.

use holdfast_adapters::run::{Live, Wanted};
use holdfast_protocol::digest::Digest;
use serde_json::json;

use crate::cases::Test;
use crate::lambda::{Bench, ROLE};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_release_of_an_image_is_a_version_and_the_alias_is_switched_to_it",
        a_release_of_an_image_is_a_version_and_the_alias_is_switched_to_it,
    ),
    (
        "an_image_is_named_by_digest_and_takes_the_place_of_no_archive",
        an_image_is_named_by_digest_and_takes_the_place_of_no_archive,
    ),
];

fn image(release: u32) -> String {
    let digest = Digest::of(&release.to_be_bytes());
    format!("000000000000.dkr.ecr.eu-central-1.amazonaws.com/web@{digest}")
}

fn wanted_of(bench: &Bench, release: u32, image: &str) -> Wanted {
    let template = json!({
        "function": "web", "endpoint": bench.server.endpoint(), "role": ROLE,
        "code": {"image": image}, "keep": 1,
    });
    let beside = ("notes.txt", "not a part of the function");
    bench.agent.wanted("aws-lambda", &template, beside, release)
}

/// The image that callers of the alias reach.
fn serves(bench: &Bench) -> String {
    let asked = bench.lambda.get_function().function_name("web");
    let found = bench
        .agent
        .block_on(asked.qualifier("live").send())
        .unwrap();
    let kind = found.configuration().and_then(|c| c.package_type());
    assert_eq!(kind.map(|kind| kind.as_str()), Some("Image"));
    let code = found.code().unwrap();
    code.image_uri().unwrap().to_owned()
}

fn a_release_of_an_image_is_a_version_and_the_alias_is_switched_to_it() {
    let test = "a_release_of_an_image_is_a_version_and_the_alias_is_switched_to_it";
    let Some(bench) = Bench::new(test) else {
        return;
    };
    let converge = |release| {
        let wanted = wanted_of(&bench, release, &image(release));
        bench.agent.converge(&wanted).unwrap();
        assert_eq!(serves(&bench), image(release));
        let live = bench.live();
        assert!(matches!(live, Live::Running { .. }), "{live:?}");
    };
    for release in [1, 2, 3] {
        converge(release);
    }
    assert_eq!(bench.versions(), ["2", "3"], "one earlier version is kept");
    // Back to an image whose version is kept, and the same again: nothing is made anew.
    converge(2);
    converge(2);
    assert_eq!(bench.leads_to(), "2");
    assert_eq!(bench.versions(), ["2", "3"]);

    let edit = bench.lambda.update_function_code().function_name("web");
    bench
        .agent
        .block_on(edit.image_uri(image(9)).send())
        .unwrap();
    let Live::Altered { what } = bench.live() else {
        panic!("another image was put there: {:?}", bench.live())
    };
    println!("{what}");
    assert!(what.contains("$LATEST"), "{what}");
    converge(2);
    bench.agent.remove("web").unwrap();
    let gone = bench.lambda.get_function().function_name("web");
    bench.agent.block_on(gone.send()).unwrap_err();
}

fn an_image_is_named_by_digest_and_takes_the_place_of_no_archive() {
    let test = "an_image_is_named_by_digest_and_takes_the_place_of_no_archive";
    let Some(bench) = Bench::new(test) else {
        return;
    };
    let refused = |image: &str| {
        let wanted = wanted_of(&bench, 2, image);
        let failure = bench.agent.converge(&wanted).unwrap_err();
        assert!(!failure.is_retryable(), "{failure}");
        failure.to_string()
    };
    let tagged = refused("000000000000.dkr.ecr.eu-central-1.amazonaws.com/web:latest");
    assert!(tagged.contains("code.image"), "{tagged}");
    bench.agent.converge(&bench.wanted(1, &json!({}))).unwrap();
    let changed = refused(&image(2));
    assert!(
        changed.contains("cannot change between a zip archive and an image"),
        "{changed}"
    );
    assert_eq!(
        bench.answer(),
        Some("1".to_owned()),
        "callers notice nothing"
    );
}
