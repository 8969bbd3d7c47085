//! Where in the cloud: region, profile, another address of the API.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// What a template says of where; the environment of the plugin says the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The region.
    pub(crate) region: Option<String>,
    /// The profile in the plugin's own configuration.
    pub(crate) profile: Option<String>,
    /// Another address of the API.
    pub(crate) endpoint: Option<String>,
}

impl Place {
    /// Reads the three fields that every template here has.
    pub(crate) fn read(
        region: Option<String>,
        profile: Option<String>,
        endpoint: Option<String>,
        problems: &mut Problems,
    ) -> Self {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if let Some(region) = &region
            && (region.is_empty() || !region.bytes().all(plain))
        {
            let message = format!("{region:?}: expected a region, such as eu-central-1");
            problems.add("region", message);
        }
        if let Some(endpoint) = &endpoint
            && !endpoint.starts_with("https://")
            && !endpoint.starts_with("http://")
        {
            problems.add(
                "endpoint",
                format!("{endpoint:?}: expected https://HOST or http://HOST"),
            );
        }
        Self {
            region,
            profile,
            endpoint,
        }
    }
}
