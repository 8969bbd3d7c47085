//! Bad manifests and what is said about them.

use expect_test::{Expect, expect};
use holdfast_protocol::api::apply::ManifestFile;

use super::validate_only;
use crate::diagnostic::render;

/// The supported part of the example in the design.
pub(crate) const EXAMPLE: &str = include_str!("testdata/example.yaml");

pub(crate) fn file(path: &str, content: &str) -> ManifestFile {
    ManifestFile {
        path: path.to_owned(),
        content: content.to_owned(),
    }
}

fn check(content: &str, expected: Expect) {
    expected.assert_eq(&said(content));
}

/// All that is said about one file that stands alone.
fn said(content: &str) -> String {
    render(
        &validate_only(&[file("web.yaml", content)], &|_, _, _| Vec::new()),
        false,
    )
}

#[test]
fn the_example_of_the_design_is_right() {
    check(EXAMPLE, expect![[""]]);
}
