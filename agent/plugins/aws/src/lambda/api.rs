//! Calls of Lambda's API about one function.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    AliasConfiguration, AliasRoutingConfiguration, Architecture, Environment, EphemeralStorage,
    FunctionCode, FunctionCodeLocation, FunctionConfiguration, LastUpdateStatus, PackageType,
    Runtime, State as ApiState, VpcConfig,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_protocol::digest::Digest;

use super::plan::{MADE, Wanted};
use super::seen::{Alias, Seen, Sha, State, Version};
use super::template::{Code, Settings};
use crate::fault::{fault, is_missing};
use crate::owner::OWNER_TAG;
use holdfast_plugins::{Failure, image};

/// Most pages of versions or aliases that are read.
const PAGES_MAX: usize = 200;
/// Longest answer of a function that is passed on, in characters.
const ANSWER_MAX_CHARS: usize = 300;

/// Speaks to Lambda about one function.
pub(crate) struct Lambda {
    client: Client,
    name: String,
}

impl Lambda {
    pub(crate) fn new(config: &SdkConfig, name: &str) -> Self {
        Self {
            client: Client::new(config),
            name: name.to_owned(),
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} function {}", self.name)
    }

    /// The function with its versions and aliases; none where there is none.
    pub(crate) async fn look(&self) -> Result<Option<Seen>, Failure> {
        let asked = self.client.get_function().function_name(&self.name);
        let found = match asked.send().await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(&self.doing("look at"), &error)),
        };
        let Some(configuration) = found.configuration() else {
            return Err(Failure::Retryable(format!(
                "Lambda says nothing of function {}",
                self.name
            )));
        };
        if let Some(error) = found.tags_error() {
            let why = error.message();
            return Err(Failure::Permanent(format!(
                "cannot read the tags of function {}: {why}; allow lambda:ListTags in the policy of \
                 the plugin's credentials",
                self.name
            )));
        }
        let latest = version(configuration, found.code());
        let versions = self.versions().await?;
        let aliases = self.aliases().await?;
        let owner = found.tags().and_then(|tags| tags.get(OWNER_TAG)).cloned();
        Ok(Some(Seen {
            owner,
            latest,
            versions,
            aliases,
        }))
    }

    async fn versions(&self) -> Result<Vec<Version>, Failure> {
        let mut all = Vec::new();
        let mut marker = None;
        for _ in 0..PAGES_MAX {
            let asked = self
                .client
                .list_versions_by_function()
                .function_name(&self.name);
            let page = asked.set_marker(marker).send().await;
            let page = page.map_err(|error| fault(&self.doing("list the versions of"), &error))?;
            let published = page
                .versions()
                .iter()
                .filter(|v| v.version() != Some("$LATEST"));
            for configuration in published {
                all.push(self.resolved(version(configuration, None)).await?);
            }
            marker = page
                .next_marker()
                .filter(|marker| !marker.is_empty())
                .map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        all.sort_by_key(|version| version.number.parse::<u64>().unwrap_or(u64::MAX));
        Ok(all)
    }

    /// A list does not always say of which image a version is; the version itself does.
    async fn resolved(&self, listed: Version) -> Result<Version, Failure> {
        if listed.code.is_some() {
            return Ok(listed);
        }
        let asked = self.client.get_function().function_name(&self.name);
        let found = asked.qualifier(&listed.number).send().await;
        let found = found.map_err(|error| fault(&self.doing("look at a version of"), &error))?;
        Ok(found
            .configuration()
            .map_or(listed, |configuration| version(configuration, found.code())))
    }

    async fn aliases(&self) -> Result<Vec<Alias>, Failure> {
        let mut all = Vec::new();
        let mut marker = None;
        for _ in 0..PAGES_MAX {
            let asked = self.client.list_aliases().function_name(&self.name);
            let page = asked.set_marker(marker).send().await;
            let page = page.map_err(|error| fault(&self.doing("list the aliases of"), &error))?;
            all.extend(page.aliases().iter().map(alias));
            marker = page
                .next_marker()
                .filter(|marker| !marker.is_empty())
                .map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// Makes the function, marked as ours.
    pub(crate) async fn create(
        &self,
        wanted: &Wanted,
        zip: Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let settings = &wanted.function.settings;
        let (code, package) = match &wanted.function.code {
            Code::Path(_) => (
                FunctionCode::builder().zip_file(blob(zip)).build(),
                PackageType::Zip,
            ),
            Code::Image(image) => (
                FunctionCode::builder().image_uri(image).build(),
                PackageType::Image,
            ),
        };
        let network = !settings.subnets.is_empty();
        let asked = self
            .client
            .create_function()
            .function_name(&self.name)
            .tags(OWNER_TAG, &wanted.owner)
            .description(MADE)
            .package_type(package)
            .code(code)
            .role(&settings.role)
            .set_runtime(settings.runtime.as_deref().map(Runtime::from))
            .set_handler(settings.handler.clone())
            .memory_size(settings.memory_mib)
            .timeout(settings.timeout_seconds)
            .architectures(Architecture::from(settings.architecture.as_str()))
            .environment(environment(settings))
            .set_ephemeral_storage(storage(settings))
            .set_layers(layers(settings))
            .set_vpc_config(network.then(|| vpc(settings)));
        let made = asked.send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("create"), &error))
    }

    /// Gives `$LATEST` other code, unless somebody changed it since `revision`.
    pub(crate) async fn recode(
        &self,
        wanted: &Wanted,
        revision: String,
        zip: Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let asked = self
            .client
            .update_function_code()
            .function_name(&self.name)
            .revision_id(revision)
            .architectures(Architecture::from(
                wanted.function.settings.architecture.as_str(),
            ));
        let asked = match &wanted.function.code {
            Code::Path(_) => asked.zip_file(blob(zip)),
            Code::Image(image) => asked.image_uri(image),
        };
        let made = asked.send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("change the code of"), &error))
    }

    /// Gives `$LATEST` other settings, unless somebody changed it since `revision`.
    pub(crate) async fn configure(
        &self,
        settings: &Settings,
        revision: String,
    ) -> Result<(), Failure> {
        let asked = self
            .client
            .update_function_configuration()
            .function_name(&self.name)
            .revision_id(revision)
            .role(&settings.role)
            .set_runtime(settings.runtime.as_deref().map(Runtime::from))
            .set_handler(settings.handler.clone())
            .memory_size(settings.memory_mib)
            .timeout(settings.timeout_seconds)
            .environment(environment(settings))
            .set_ephemeral_storage(storage(settings))
            .set_layers(layers(settings))
            .vpc_config(vpc(settings));
        let made = asked.send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("change the settings of"), &error))
    }

    /// Publishes `$LATEST`, unless somebody changed it since `revision`.
    pub(crate) async fn publish(
        &self,
        code: &Sha,
        revision: String,
        release: &str,
    ) -> Result<(), Failure> {
        let sha = match code {
            Sha::Zip(digest) => Some(STANDARD.encode(digest.as_bytes())),
            Sha::Image(_) => None,
        };
        let asked = self
            .client
            .publish_version()
            .function_name(&self.name)
            .revision_id(revision)
            .set_code_sha256(sha)
            .description(format!("{MADE} {release}"));
        let made = asked.send().await;
        made.map(drop)
            .map_err(|error| fault(&self.doing("publish a version of"), &error))
    }

    /// Calls a version; what it answers is an error where it fails.
    pub(crate) async fn call(
        &self,
        version: &str,
        event: &serde_json::Value,
    ) -> Result<(), Failure> {
        let asked = self
            .client
            .invoke()
            .function_name(&self.name)
            .qualifier(version);
        let answer = asked.payload(Blob::new(event.to_string())).send().await;
        let answer = answer.map_err(|error| fault(&self.doing("try"), &error))?;
        if answer.function_error().is_none() {
            return Ok(());
        }
        let said = answer
            .payload()
            .map(|said| String::from_utf8_lossy(said.as_ref()).into_owned());
        let said: String = said
            .unwrap_or_default()
            .chars()
            .take(ANSWER_MAX_CHARS)
            .collect();
        let name = &self.name;
        Err(Failure::Permanent(format!(
            "version {version} of function {name} fails its trial: {said}"
        )))
    }

    /// Leads an alias to a version in one step; makes it where there is no `revision`.
    pub(crate) async fn point(
        &self,
        wanted: &Wanted,
        version: &str,
        revision: Option<String>,
    ) -> Result<(), Failure> {
        let alias = &wanted.function.alias;
        let description = format!("{MADE} {}", wanted.body);
        let doing = self.doing(&format!("lead alias {alias} to version {version} of"));
        let Some(revision) = revision else {
            let asked = self
                .client
                .create_alias()
                .function_name(&self.name)
                .name(alias);
            let made = asked
                .function_version(version)
                .description(description)
                .send()
                .await;
            return made.map(drop).map_err(|error| fault(&doing, &error));
        };
        let asked = self
            .client
            .update_alias()
            .function_name(&self.name)
            .name(alias);
        let asked = asked.function_version(version).description(description);
        let asked = asked.routing_config(
            AliasRoutingConfiguration::builder()
                .set_additional_version_weights(Some(std::collections::HashMap::new()))
                .build(),
        );
        let made = asked.revision_id(revision).send().await;
        made.map(drop).map_err(|error| fault(&doing, &error))
    }

    /// Gives `version` a part of an alias's calls, or takes it back where the weight is none.
    pub(crate) async fn weigh(
        &self,
        alias: &Alias,
        version: &str,
        weight: Option<f64>,
        revision: Option<String>,
    ) -> Result<String, Failure> {
        let weights = weight
            .map(|weight| (version.to_owned(), weight))
            .into_iter()
            .collect();
        let routing = AliasRoutingConfiguration::builder();
        let routing = routing
            .set_additional_version_weights(Some(weights))
            .build();
        let asked = self
            .client
            .update_alias()
            .function_name(&self.name)
            .name(&alias.name);
        let asked = asked
            .function_version(&alias.version)
            .routing_config(routing);
        let made = asked.set_revision_id(revision).send().await;
        let doing = self.doing(&format!("give version {version} a part of the calls of"));
        let made = made.map_err(|error| fault(&doing, &error))?;
        Ok(made.revision_id().unwrap_or_default().to_owned())
    }

    /// Deletes versions; one that is gone is no failure.
    pub(crate) async fn forget(&self, versions: &[String]) -> Result<(), Failure> {
        for version in versions {
            let asked = self.client.delete_function().function_name(&self.name);
            match asked.qualifier(version).send().await {
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(fault(&self.doing("delete an old version of"), &error)),
            }
        }
        Ok(())
    }

    /// Deletes the function with all its versions, if it is of `owner`.
    pub(crate) async fn delete(&self, owner: &str) -> Result<(), Failure> {
        let found = self
            .client
            .get_function()
            .function_name(&self.name)
            .send()
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(fault(&self.doing("look at"), &error)),
        };
        if found
            .tags()
            .and_then(|tags| tags.get(OWNER_TAG))
            .is_none_or(|tag| tag != owner)
        {
            return Ok(());
        }
        match self
            .client
            .delete_function()
            .function_name(&self.name)
            .send()
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(fault(&self.doing("delete"), &error)),
        }
    }
}

fn blob(zip: Option<Vec<u8>>) -> Blob {
    Blob::new(zip.unwrap_or_default())
}

fn environment(settings: &Settings) -> Environment {
    let variables = settings.environment.clone().into_iter().collect();
    Environment::builder()
        .set_variables(Some(variables))
        .build()
}

/// An image has none, and Lambda refuses even to be told so.
fn layers(settings: &Settings) -> Option<Vec<String>> {
    settings.runtime.is_some().then(|| settings.layers.clone())
}

fn storage(settings: &Settings) -> Option<EphemeralStorage> {
    EphemeralStorage::builder()
        .size(settings.storage_mib)
        .build()
        .ok()
}

fn vpc(settings: &Settings) -> VpcConfig {
    VpcConfig::builder()
        .set_subnet_ids(Some(settings.subnets.clone()))
        .set_security_group_ids(Some(settings.security_groups.clone()))
        .build()
}

fn alias(found: &AliasConfiguration) -> Alias {
    let weights = found
        .routing_config()
        .and_then(AliasRoutingConfiguration::additional_version_weights);
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Alias {
        name: text(found.name()),
        version: text(found.function_version()),
        weights: weights
            .map(|all| all.iter().map(|(k, v)| (k.clone(), *v)).collect())
            .unwrap_or_default(),
        revision: text(found.revision_id()),
        description: text(found.description()),
    }
}

fn version(found: &FunctionConfiguration, code: Option<&FunctionCodeLocation>) -> Version {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Version {
        number: text(found.version()),
        revision: text(found.revision_id()),
        code: sha(found, code),
        settings: settings(found),
        state: state(found),
        description: text(found.description()),
    }
}

/// Of a zip archive Lambda gives base64, of an image hexadecimal digits or its whole name.
fn sha(found: &FunctionConfiguration, code: Option<&FunctionCodeLocation>) -> Option<Sha> {
    let text = found.code_sha256().unwrap_or_default();
    if found.package_type() == Some(&PackageType::Image) {
        let named = code.and_then(|code| code.resolved_image_uri().or(code.image_uri()));
        let named = named.and_then(|image| image::digest(image).ok());
        return named
            .or_else(|| format!("sha256:{text}").parse().ok())
            .map(Sha::Image);
    }
    let bytes = STANDARD.decode(text).ok()?;
    Some(Sha::Zip(Digest::from_bytes(bytes.try_into().ok()?)))
}

fn settings(found: &FunctionConfiguration) -> Settings {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let variables = found
        .environment()
        .and_then(|environment| environment.variables());
    let variables: BTreeMap<_, _> = variables.cloned().unwrap_or_default().into_iter().collect();
    let network = found.vpc_config();
    let sorted = |all: Option<&[String]>| {
        let mut all = all.unwrap_or_default().to_vec();
        all.sort();
        all
    };
    Settings {
        runtime: text(found.runtime().map(Runtime::as_str)),
        handler: text(found.handler()),
        role: found.role().unwrap_or_default().to_owned(),
        memory_mib: found.memory_size().unwrap_or_default(),
        timeout_seconds: found.timeout().unwrap_or_default(),
        storage_mib: found
            .ephemeral_storage()
            .map_or(512, EphemeralStorage::size),
        architecture: found
            .architectures()
            .first()
            .map_or("x86_64", Architecture::as_str)
            .to_owned(),
        environment: variables,
        layers: found
            .layers()
            .iter()
            .filter_map(|layer| layer.arn().map(str::to_owned))
            .collect(),
        subnets: sorted(network.map(|network| network.subnet_ids())),
        security_groups: sorted(network.map(|network| network.security_group_ids())),
    }
}

fn state(found: &FunctionConfiguration) -> State {
    let failed = |code: Option<&str>, why: Option<&str>| State::Failed {
        code: code.unwrap_or("no code").to_owned(),
        why: why.unwrap_or("Lambda does not say why").to_owned(),
    };
    if found.state() == Some(&ApiState::Failed) {
        let code = found.state_reason_code().map(|code| code.as_str());
        return failed(code, found.state_reason());
    }
    if found.last_update_status() == Some(&LastUpdateStatus::Failed) {
        let code = found
            .last_update_status_reason_code()
            .map(|code| code.as_str());
        return failed(code, found.last_update_status_reason());
    }
    let pending = found.state() == Some(&ApiState::Pending)
        || found.last_update_status() == Some(&LastUpdateStatus::InProgress);
    if pending {
        State::Pending
    } else {
        State::Ready
    }
}
