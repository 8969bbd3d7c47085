//! Arguments of `user` and `role`.

use std::time::Duration;

use clap::{Args, Subcommand};
use holdfast_protocol::api::role::{Permission, ServicePattern};
use holdfast_protocol::name::{EnvironmentName, InputSetName, RoleName, UserName};
use holdfast_protocol::time::parse_span;

/// People and programs that use the API.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Makes a user and prints the token alone on standard output
    Create(UserCreate),
    /// Lists users, without their tokens
    #[command(after_help = "Examples:\n  holdfast user list\n  holdfast user list -o wide")]
    List,
    /// Gives a user other roles; the token stays
    Assign(UserAssign),
    /// Makes a new token for a user and prints it alone; the one before is void
    Rotate(UserRotate),
    /// Makes a user's token void, and ends the streams that it has open
    Revoke(UserRevoke),
}

/// Makes a user.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast user create ada --role operator\n  \
                        holdfast user create ci-web --role release-web --ttl 90d > web.token\n\n\
                        Built in are the roles admin, operator and viewer; `holdfast role list` has them all."
)]
pub struct UserCreate {
    /// Name of the person or program
    pub name: UserName,
    /// A role; may be given several times
    #[arg(long, required = true, value_name = "ROLE")]
    pub role: Vec<RoleName>,
    /// How long the token is valid; without end, if not given
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub ttl: Option<Duration>,
}

/// Gives a user other roles.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast user assign ada --role operator --role release-manager"
)]
pub struct UserAssign {
    /// The user
    pub name: UserName,
    /// A role that the user has from now on; all others are taken away
    #[arg(long, required = true, value_name = "ROLE")]
    pub role: Vec<RoleName>,
}

/// Makes a new token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast user rotate ci-web > web.token")]
pub struct UserRotate {
    /// The user
    pub name: UserName,
    /// How long the new token is valid; as long as the one before, if not given
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub ttl: Option<Duration>,
}

/// Makes a token void.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast user revoke ada")]
pub struct UserRevoke {
    /// The user
    pub name: UserName,
}

/// What users may do.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Declares a role
    Create(RoleCreate),
    /// Lists roles
    #[command(after_help = "Examples:\n  holdfast role list")]
    List,
    /// Shows what a role allows, and who has it
    Show(RoleShow),
    /// Deletes a role that nobody has
    Delete(RoleDelete),
}

/// Declares a role.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast role create team-web --permission read --permission deploy --service web-*\n  \
                        holdfast role create staging --permission apply --environment staging --set team-web\n  \
                        holdfast role create release-manager      # to be asked for by approvals\n\n\
                        Permissions: read apply release deploy approve target secret access."
)]
pub struct RoleCreate {
    /// Its name
    pub name: RoleName,
    /// What its holders may do; may be given several times; only `read`, if not given
    #[arg(long, value_name = "PERMISSION", value_parser = permission)]
    pub permission: Vec<Permission>,
    /// Only for these services: a name, or its beginning and `*`
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub service: Vec<ServicePattern>,
    /// Only in these environments
    #[arg(short, long, alias = "env", value_name = "NAME")]
    pub environment: Vec<EnvironmentName>,
    /// Only applies of these input sets
    #[arg(long, value_name = "NAME")]
    pub set: Vec<InputSetName>,
    /// Only applies of documents of these kinds, such as Service
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Take the place of a role of this name that says something else
    #[arg(long)]
    pub replace: bool,
}

/// Shows a role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast role show release-manager")]
pub struct RoleShow {
    /// The role
    pub name: RoleName,
}

/// Deletes a role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast role delete team-web")]
pub struct RoleDelete {
    /// The role
    pub name: RoleName,
}

fn permission(text: &str) -> Result<Permission, String> {
    text.parse()
}

fn pattern(text: &str) -> Result<ServicePattern, String> {
    text.parse()
}
