//! Where a release ever was, for how long, and what it passed there.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use holdfast_protocol::api::Items;
use holdfast_protocol::api::deployment::{Deployment, Phase};
use holdfast_protocol::api::whereabouts::Stay;
use holdfast_protocol::name::{EnvironmentName, ServiceName, Version};

use super::problem::{Answer, Failed, Query};
use super::status::Which;
use super::{App, Caller};
use crate::store::DeploymentPage;

/// Most deployments of a service that are looked through, the newest first.
const LOOKED_AT_MAX: usize = 20_000;
/// Deployments that are read at a time.
const PAGE_ROWS: u32 = 1_000;

/// The environments that each release of a service was deployed in, in the order of first coming.
#[utoipa::path(
    get,
    path = "/v1/where/ever",
    params(Which),
    responses((status = 200, body = Items<Stay>), (status = 404, description = "no such service"))
)]
pub async fn ever(
    State(app): State<App>,
    _: Caller,
    Query(which): Query<Which>,
) -> Answer<Items<Stay>> {
    let (service, version) = which.read()?;
    which.demand_known(&app).await?;
    let all = deployments(&app, &service).await?;
    let mut stays = stays(&all);
    if let Some(version) = version {
        stays.retain(|stay| stay.version == version);
    }
    Ok(Json(stays.into()))
}

/// The deployments of a service, oldest first.
async fn deployments(app: &App, service: &ServiceName) -> Result<Vec<Deployment>, Failed> {
    let mut all: Vec<Deployment> = Vec::new();
    while all.len() < LOOKED_AT_MAX {
        let page = DeploymentPage {
            service: Some(service.clone()),
            environment: None,
            before: all.last().map(|last| last.id),
            limit: PAGE_ROWS,
        };
        let rows = app.store.deployments(&page).await?;
        if rows.is_empty() {
            break;
        }
        all.extend(rows);
    }
    all.reverse();
    Ok(all)
}

/// One stay for each release and environment.
fn stays(deployments: &[Deployment]) -> Vec<Stay> {
    let mut found: BTreeMap<(&Version, &EnvironmentName), Stay> = BTreeMap::new();
    for deployment in deployments {
        if deployment.phase == Phase::Stable {
            end_others(&mut found, deployment);
        }
        let stay = found
            .entry((&deployment.version, &deployment.environment))
            .or_insert_with(|| begin(deployment));
        extend(stay, deployment);
    }
    let mut stays: Vec<Stay> = found.into_values().collect();
    stays.sort_by_key(|stay| stay.deployments.first().copied());
    stays
}

/// What was stable in the environment gives way to what is now.
fn end_others(found: &mut BTreeMap<(&Version, &EnvironmentName), Stay>, deployment: &Deployment) {
    for ((version, environment), stay) in found.iter_mut() {
        let gives_way = **environment == deployment.environment
            && **version != deployment.version
            && stay.stable_since.is_some()
            && stay.until.is_none();
        if gives_way {
            stay.until = deployment.finished_at;
        }
    }
}

fn begin(deployment: &Deployment) -> Stay {
    Stay {
        service: deployment.service.clone(),
        version: deployment.version.clone(),
        environment: deployment.environment.clone(),
        deployments: Vec::new(),
        first: deployment.started_at,
        stable_since: None,
        until: None,
        phase: deployment.phase,
        passed: Vec::new(),
    }
}

fn extend(stay: &mut Stay, deployment: &Deployment) {
    stay.deployments.push(deployment.id);
    stay.phase = deployment.phase;
    if deployment.phase == Phase::Stable {
        stay.stable_since = stay.stable_since.or(deployment.finished_at);
        stay.until = None;
    }
    let results = deployment.protections.iter();
    let passed = results.filter(|result| result.result == "passed");
    let names: BTreeSet<String> = passed
        .map(|result| result.name.clone())
        .chain(stay.passed.drain(..))
        .collect();
    stay.passed = names.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::api::deployment::{
        ProtectionResult, TargetCounts, Trigger, TriggerKind, WaveCount,
    };
    use holdfast_protocol::time::Timestamp;

    use super::*;

    fn deployment(id: u64, version: &str, environment: &str, phase: Phase) -> Deployment {
        Deployment {
            id,
            service: "web".parse().unwrap(),
            environment: environment.parse().unwrap(),
            version: version.parse().unwrap(),
            revision: 1,
            phase,
            reason: String::new(),
            started_at: Timestamp::from_millis(id * 10),
            finished_at: phase
                .is_final()
                .then(|| Timestamp::from_millis(id * 10 + 5)),
            targets: TargetCounts::default(),
            waits: Vec::new(),
            waves: WaveCount::default(),
            trigger: Trigger {
                kind: TriggerKind::Release,
                by: None,
                reason: None,
            },
            previous: None,
            protections: vec![ProtectionResult {
                name: "alerts".to_owned(),
                when: "pre".to_owned(),
                result: "passed".to_owned(),
                output: String::new(),
                at: Timestamp::default(),
            }],
            skipped: Vec::new(),
            approvals: Vec::new(),
            hotfix: false,
            shown: None,
            configuration: None,
            last_lines: Vec::new(),
        }
    }

    fn told(stays: &[Stay]) -> Vec<String> {
        let tell = |stay: &Stay| {
            let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
            format!(
                "{} {} {:?} {:?} stable {:?} until {:?} passed {}",
                stay.version,
                stay.environment,
                stay.phase,
                stay.deployments,
                millis(stay.stable_since),
                millis(stay.until),
                stay.passed.join(",")
            )
        };
        stays.iter().map(tell).collect()
    }

    #[test]
    fn a_release_stays_until_another_is_stable_in_its_place() {
        let all = [
            deployment(1, "1.0", "staging", Phase::Stable),
            deployment(2, "1.0", "production", Phase::Stable),
            deployment(3, "1.1", "staging", Phase::RolledBack),
            deployment(4, "1.1", "staging", Phase::Stable),
        ];
        assert_eq!(
            told(&stays(&all)),
            [
                "1.0 staging Stable [1] stable Some(15) until Some(45) passed alerts",
                "1.0 production Stable [2] stable Some(25) until None passed alerts",
                "1.1 staging Stable [3, 4] stable Some(45) until None passed alerts",
            ]
        );
    }
}
