//! What the system says of this process.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Bytes of memory that are resident; `None` where the platform does not tell.
pub fn resident_bytes() -> Option<u64> {
    let own = sysinfo::get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, memory);
    Some(system.process(own)?.memory())
}
