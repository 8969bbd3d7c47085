//! What is particular to containers: Docker Engine and Podman, with what can go wrong with them.

use crate::bench::runtime;
use crate::bench_container::ContainerBench;
use crate::engine::{Kind, available};

pub(crate) const TESTS: &[crate::Test] = &[
    ("docker_engine_conforms", docker_engine_conforms),
    ("podman_conforms", podman_conforms),
];

fn docker_engine_conforms() {
    if available("docker_engine_conforms") {
        conforms(&ContainerBench::shared());
    }
}

fn podman_conforms() {
    if available("podman_conforms") {
        conforms(&ContainerBench::own(Kind::Podman));
    }
}

fn conforms(bench: &ContainerBench) {
    let report = runtime().block_on(holdfast_adapters::conformance::run(bench));
    let reports = [report];
    println!("{}", holdfast_adapters::conformance::Table(&reports));
    assert!(reports[0].passed());
}
