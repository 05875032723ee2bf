//! Who asks: what settings say of users, passwords and tokens, and the header it makes.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::basic;
use crate::ingest::SourceError;
use crate::world::World;

/// `basic_auth = { username = "…", password = "…" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    #[serde(default)]
    pub password: String,
    /// A file with the password, read at each pass.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// How a source shows who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    None,
    Basic(BasicAuth),
    Bearer(String),
    BearerFile(PathBuf),
}

impl Credentials {
    /// Of the keys `basic_auth`, `bearer_token` and `bearer_token_file`, of which one may be written.
    ///
    /// # Errors
    /// The key, and what to write.
    pub fn written(
        basic: Option<&BasicAuth>,
        bearer: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Credentials, (&'static str, String)> {
        match (basic, bearer, file) {
            (None, None, None) => Ok(Credentials::None),
            (Some(BasicAuth { password, password_file: Some(_), .. }), None, None) if !password.is_empty() => {
                Err(("basic_auth", "write either password or password_file".to_owned()))
            }
            (Some(basic), None, None) => Ok(Credentials::Basic(basic.clone())),
            (None, Some(token), None) => Ok(Credentials::Bearer(token.to_owned())),
            (None, None, Some(file)) => Ok(Credentials::BearerFile(file.to_owned())),
            _ => {
                let key = if bearer.is_some() { "bearer_token" } else { "bearer_token_file" };
                Err((key, "write one of basic_auth, bearer_token and bearer_token_file".to_owned()))
            }
        }
    }

    /// The header, if there is one. Files are read anew each time: tokens change.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn header(&self, world: &World) -> Result<Option<(String, String)>, SourceError> {
        let value = match self {
            Credentials::None => return Ok(None),
            Credentials::Basic(BasicAuth { username, password_file: Some(file), .. }) => {
                basic(username, &secret("password_file", file, world)?)
            }
            Credentials::Basic(BasicAuth { username, password, .. }) => basic(username, password),
            Credentials::Bearer(token) => format!("Bearer {token}"),
            Credentials::BearerFile(file) => format!("Bearer {}", secret("bearer_token_file", file, world)?),
        };
        Ok(Some(("authorization".to_owned(), value)))
    }
}

fn secret(key: &str, file: &Path, world: &World) -> Result<String, SourceError> {
    let told =
        |why: &dyn std::fmt::Display| SourceError::new(format!("{key} {} cannot be read ({why})", file.display()));
    let bytes = world.disk.open(file).and_then(|file| file.read_all()).map_err(|error| told(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| told(&"it is no text"))?;
    Ok(text.trim().to_owned())
}
