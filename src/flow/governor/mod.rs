//! The governor: does less while resources are short. It looks how much CPU, memory and room in queues is in use, says
//! which [`Zone`] that is, and everybody who can do less looks at its [`Pressure`].

mod machine;
mod pressure;
mod watch;
mod zone;

pub use machine::{Change, Governor, GovernorSpec, Reading, Usage};
pub use pressure::Pressure;
pub use watch::{Governing, GovernorStats};
pub use zone::{Compression, Effects, Pace, Zone};
