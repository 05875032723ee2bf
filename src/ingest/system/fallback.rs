//! What `sysinfo` knows of a machine without `/proc`, under the names of the other modules.

use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Networks, Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System,
};

use super::network::is_virtual;
use super::{Pass, percent};

const MILLIS_PER_SECOND: f64 = 1e3;

/// `None` where the platform is one `sysinfo` does not know.
pub(super) struct Fallback {
    system: Option<System>,
    networks: Option<Networks>,
    own: Option<Pid>,
    /// CPU percentages are since the refresh before, so the first ones mean nothing.
    first: bool,
    errors: u64,
}

impl Fallback {
    pub fn new() -> Self {
        Fallback {
            system: System::new().ok(),
            networks: Networks::new().ok(),
            own: sysinfo::get_current_pid().ok(),
            first: true,
            errors: 0,
        }
    }

    /// Questions that were not answered so far.
    pub fn collect(&mut self, pass: &mut Pass) -> u64 {
        let first = std::mem::replace(&mut self.first, false);
        if let Some(system) = &mut self.system {
            refresh(system, self.own);
            put_cpu(pass, system, first);
            put_memory(pass, system);
            if let Some(own) = self.own.and_then(|pid| system.process(pid)) {
                put_own(pass, own, system.cpus().len(), first);
            }
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            put_networks(pass, networks);
        }
        self.put_load(pass);
        self.errors
    }

    fn put_load(&mut self, pass: &mut Pass) {
        match System::uptime() {
            Ok(seconds) => pass.put("system_uptime_seconds", seconds as f64),
            Err(_) => self.errors += 1,
        }
        match System::load_average() {
            Ok(load) => {
                pass.put("system_load1", load.one);
                pass.put("system_load5", load.five);
                pass.put("system_load15", load.fifteen);
            }
            Err(_) => self.errors += 1,
        }
    }
}

fn refresh(system: &mut System, own: Option<Pid>) {
    system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    if let Some(pid) = own {
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    }
}

fn put_cpu(pass: &mut Pass, system: &System, first: bool) {
    pass.put("system_cpu_cores", system.cpus().len() as f64);
    if first {
        return;
    }
    pass.put("system_cpu_usage_percent", percent(system.global_cpu_usage().into(), 100.0));
    for (number, cpu) in system.cpus().iter().enumerate() {
        let usage = percent(cpu.usage().into(), 100.0);
        pass.put_of("system_cpu_core_usage_percent", &[("cpu", &number.to_string())], usage);
    }
}

fn put_memory(pass: &mut Pass, system: &System) {
    let total = system.total_memory() as f64;
    let available = system.available_memory() as f64;
    let swap_total = system.total_swap() as f64;
    let swap_used = system.used_swap() as f64;
    pass.put("system_memory_total_bytes", total);
    pass.put("system_memory_available_bytes", available);
    pass.put("system_memory_free_bytes", system.free_memory() as f64);
    pass.put("system_memory_used_bytes", total - available);
    pass.put("system_memory_used_percent", percent(total - available, total));
    pass.put("system_swap_total_bytes", swap_total);
    pass.put("system_swap_free_bytes", system.free_swap() as f64);
    pass.put("system_swap_used_bytes", swap_used);
    pass.put("system_swap_used_percent", percent(swap_used, swap_total));
}

fn put_own(pass: &mut Pass, own: &Process, cpus: usize, first: bool) {
    if !first {
        pass.put("process_cpu_usage_percent", percent(own.cpu_usage().into(), 100.0 * cpus as f64));
    }
    let disk = own.disk_usage();
    pass.put("process_cpu_seconds_total", own.accumulated_cpu_time() as f64 / MILLIS_PER_SECOND);
    pass.put("process_resident_memory_bytes", own.memory() as f64);
    pass.put("process_virtual_memory_bytes", own.virtual_memory() as f64);
    pass.put("process_uptime_seconds", own.run_time() as f64);
    pass.put("process_read_bytes_total", disk.total_read_bytes as f64);
    pass.put("process_written_bytes_total", disk.total_written_bytes as f64);
}

fn put_networks(pass: &mut Pass, networks: &Networks) {
    for (name, traffic) in networks {
        let name = name.to_string_lossy();
        if is_virtual(&name) {
            continue;
        }
        let labels = [("interface", &name[..])];
        pass.put_of("system_network_receive_bytes_total", &labels, traffic.total_received() as f64);
        pass.put_of("system_network_receive_packets_total", &labels, traffic.total_packets_received() as f64);
        pass.put_of("system_network_receive_errors_total", &labels, traffic.total_errors_on_received() as f64);
        pass.put_of("system_network_transmit_bytes_total", &labels, traffic.total_transmitted() as f64);
        pass.put_of("system_network_transmit_packets_total", &labels, traffic.total_packets_transmitted() as f64);
        pass.put_of("system_network_transmit_errors_total", &labels, traffic.total_errors_on_transmitted() as f64);
    }
}
