//! Clouds' object storage, by the clouds' own protocols: what the feature `object-store` brings.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use crate::failure::Failure;
use crate::static_files::bucket::connect::{Options, say};
use crate::static_files::bucket::http::{Connector, OPTIONS};
use crate::static_files::destination::{Destination, Scheme};

/// How often one request is tried again; beyond that the driver tries the whole again, later.
const RETRIES_MAX: usize = 4;
/// How long one request is tried again.
const RETRY_LIMIT: Duration = Duration::from_secs(15);

/// Makes a client; asks nobody yet.
pub(super) fn store(
    destination: &Destination,
    options: Options,
) -> Result<Arc<dyn ObjectStore>, Failure> {
    let made = match destination.scheme {
        Scheme::S3 => s3(destination, options),
        Scheme::Gs => gs(destination, options),
        Scheme::Az => az(destination, options),
        Scheme::File => {
            let why = format!("{destination} is in no cloud");
            return Err(Failure::Permanent(why));
        }
    };
    made.map_err(|error| {
        Failure::Retryable(format!(
            "{} cannot be used: {}; see [object-store] in agent.toml",
            destination.home(),
            say(&error)
        ))
    })
}

/// Whether `key` is an option of a kind of storage.
///
/// # Errors
/// Why not, for people.
pub(super) fn check_known(scheme: &str, key: &str) -> Result<(), String> {
    let known = match scheme {
        "s3" => key.parse::<AmazonS3ConfigKey>().is_ok(),
        "gs" => key.parse::<GoogleConfigKey>().is_ok(),
        "az" => key.parse::<AzureConfigKey>().is_ok(),
        _ => return Err(format!("{scheme:?} is not s3, gs or az")),
    };
    let own = key.strip_prefix("aws_").unwrap_or(key);
    let counts = |key: ClientConfigKey| OPTIONS.contains(&key);
    if known && own.parse().map_or(true, counts) {
        return Ok(());
    }
    Err(format!("{key:?} is no option of {scheme}"))
}

fn s3(destination: &Destination, options: Options) -> object_store::Result<Arc<dyn ObjectStore>> {
    let plain = is_plain(&options);
    let builder = AmazonS3Builder::from_env()
        .with_http_connector(Connector)
        .with_retry(retry())
        .with_allow_http(plain);
    let with = |builder: AmazonS3Builder, (key, value): (String, String)| {
        Ok::<_, object_store::Error>(builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value))
    };
    let builder = options.into_iter().try_fold(builder, with)?;
    Ok(Arc::new(
        builder.with_bucket_name(&destination.bucket).build()?,
    ))
}

fn gs(destination: &Destination, options: Options) -> object_store::Result<Arc<dyn ObjectStore>> {
    let builder = GoogleCloudStorageBuilder::from_env()
        .with_http_connector(Connector)
        .with_client_options(ClientOptions::new().with_allow_http(is_plain(&options)))
        .with_retry(retry());
    let with = |builder: GoogleCloudStorageBuilder, (key, value): (String, String)| {
        Ok::<_, object_store::Error>(builder.with_config(key.parse::<GoogleConfigKey>()?, value))
    };
    let builder = options.into_iter().try_fold(builder, with)?;
    Ok(Arc::new(
        builder.with_bucket_name(&destination.bucket).build()?,
    ))
}

fn az(destination: &Destination, options: Options) -> object_store::Result<Arc<dyn ObjectStore>> {
    let plain = is_plain(&options);
    let builder = MicrosoftAzureBuilder::from_env()
        .with_http_connector(Connector)
        .with_retry(retry())
        .with_allow_http(plain);
    let with = |builder: MicrosoftAzureBuilder, (key, value): (String, String)| {
        Ok::<_, object_store::Error>(builder.with_config(key.parse::<AzureConfigKey>()?, value))
    };
    let builder = options.into_iter().try_fold(builder, with)?;
    Ok(Arc::new(
        builder.with_container_name(&destination.bucket).build()?,
    ))
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_LIMIT,
    }
}

/// Whoever writes down an address without TLS means it.
fn is_plain(options: &Options) -> bool {
    let plain = |key: &str| options.get(key).is_some_and(|v| v.starts_with("http://"));
    [
        "endpoint",
        "aws_endpoint",
        "azure_storage_endpoint",
        "google_base_url",
    ]
    .iter()
    .any(|key| plain(key))
}
