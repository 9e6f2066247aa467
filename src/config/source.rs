//! Where a configuration comes from.

use super::keepalived::{self, Node};
use super::{Config, ConfigError};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub enum Source {
    Toml(PathBuf),
    /// Virtual routers as keepalived would run them. `id`: whom its `@id` lines are for.
    Keepalived {
        path: PathBuf,
        id: String,
        node: Node,
    },
}

impl Source {
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Source::Toml(path) | Source::Keepalived { path, .. } => path,
        }
    }

    /// With what an operator should know of it.
    pub fn load(&self) -> Result<(Config, Vec<String>), ConfigError> {
        match self {
            Source::Toml(path) => Config::load(path).map(|config| {
                let advice = config.advice();
                (config, advice)
            }),
            Source::Keepalived { path, id, node } => keepalived::load(path, id, node),
        }
    }
}
