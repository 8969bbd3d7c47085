//! The way to AWS: region, credentials and time limits, from the template and the plugin's environment.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::place::Place;
use holdfast_plugins::Failure;

/// Time that a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// Times that a call is made before it has failed.
const ATTEMPTS: u32 = 3;

/// Finds region and credentials. `limit` is for each call with all its attempts.
///
/// # Errors
/// Where no region is named anywhere.
pub(crate) async fn connect(place: &Place, limit: Duration) -> Result<SdkConfig, Failure> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_timeout(limit)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    if let Some(region) = &place.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &place.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &place.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(Failure::Retryable(
            "no region is named: set region in the template, or AWS_REGION in the plugin's \
             environment in agent.toml"
                .to_owned(),
        ));
    }
    Ok(config)
}
