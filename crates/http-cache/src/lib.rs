//! placeholder
mod directive;
mod field;
mod fresh;
mod request;
mod reuse;
mod settings;
mod store;
mod structured;
#[cfg(test)]
mod testing;
mod vary;
pub use directive::*;
pub use fresh::*;
pub use request::*;
pub use reuse::*;
pub use settings::*;
pub use store::*;
pub use vary::*;
