//! Which platforms keep their backups at a place.

use crate::destination::{Destination, DestinationConfig, DestinationError};
use crate::set::Kind;

/// Names that are looked at: what else lies there is somebody else's.
const MAX_NAMES: usize = 100;

/// Platforms that have a backup of what their control plane knows there.
pub async fn names(config: &DestinationConfig) -> Result<Vec<String>, DestinationError> {
    let all = Destination::open(config, "")?;
    let mut names = Vec::new();
    for name in all.folders().await?.into_iter().take(MAX_NAMES) {
        let one = Destination::open(config, &name)?;
        let has = async |kind: Kind| Ok::<_, DestinationError>(!one.list(kind.name()).await?.is_empty());
        if has(Kind::State).await? || has(Kind::Secrets).await? {
            names.push(name);
        }
    }
    Ok(names)
}
