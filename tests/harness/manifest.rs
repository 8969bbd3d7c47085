//! Manifests that many tests apply. Times are short: what is tested is what happens, not how long a
//! real soak is.

/// `staging`, and `production` after it: one target first, then the rest.
pub const ENVIRONMENTS: &str = "\
apiVersion: holdfast/v1
kind: Environment
metadata: {name: staging, owner: platform}
spec:
  rollout: {waves: [100%], soak: 200ms, progressDeadline: 20s}
---
apiVersion: holdfast/v1
kind: Environment
metadata: {name: production, owner: platform}
spec:
  after: [staging]
  rollout: {waves: [1, 100%], maxUnavailable: 1, soak: 200ms, progressDeadline: 20s}
";

/// A service whose workload sleeps, and is ready as long as it runs. It has no artifact. The release
/// is in its environment and in its arguments, so that another release is another process.
#[must_use]
pub fn sleeper(service: &str) -> String {
    format!(
        "\
apiVersion: holdfast/v1
kind: Service
metadata: {{name: {service}, owner: team-{service}}}
spec:
  runtime: process
  template:
    command: [\"/bin/sh\", \"-c\", \"exec /bin/sleep 100000\", \"{service}-{{{{ release.version }}}}\"]
    environment: {{RELEASE: \"{{{{ release.version }}}}\"}}
    restart: {{policy: always, backoff: {{initial: 100ms, max: 1s}}}}
    stop: {{signal: SIGTERM, grace: 2s}}
"
    )
}
