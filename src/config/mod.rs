//! Settings and pipeline files: read, checked, every fault at once with its line and remedy.

mod faults;
mod memory;
mod pipelines;
mod settings;
mod slos;

pub use faults::{ConfigFault, ConfigFaults};
pub use memory::MemoryPlan;
pub use pipelines::{DEFAULT_PIPELINE, PIPELINES, file_faults, line_in_stage, read_pipeline, read_pipelines};
pub use settings::{
    CachePolicy, CollectSettings, IngestSettings, PipelineSettings, QuerySettings, Settings, StoreSettings,
};
pub use slos::read_slos;
