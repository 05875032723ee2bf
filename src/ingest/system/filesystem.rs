//! Room on file systems. There is no safe way to ask but through `sysinfo`.

use hashbrown::HashSet;
use sysinfo::{DiskRefreshKind, Disks};

use super::{Pass, percent};

/// File systems whose room is not a disk's, beyond those that `sysinfo` leaves out: kernel interfaces, memory, images.
const PSEUDO: [&str; 12] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "configfs",
    "debugfs",
    "devfs",
    "efivarfs",
    "erofs",
    "nsfs",
    "ramfs",
    "tmpfs",
    "tracefs",
];

/// The file systems this process sees, network ones left out: asking for their room may hang.
pub(super) struct Filesystems {
    disks: Option<Disks>,
}

impl Filesystems {
    pub fn new() -> Self {
        Filesystems { disks: Disks::new().ok() }
    }

    pub fn collect(&mut self, pass: &mut Pass) {
        let Some(disks) = &mut self.disks else { return };
        disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let mounts = disks.iter().map(|disk| Mount {
            path: disk.mount_point().to_string_lossy().into_owned(),
            device: disk.name().to_string_lossy().into_owned(),
            device_id: disk.id(),
            kind: disk.file_system().to_string_lossy().into_owned(),
            size: disk.total_space(),
            available: disk.available_space(),
        });
        distinct(mounts.collect()).iter().for_each(|mount| put(pass, mount));
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Mount {
    path: String,
    device: String,
    device_id: Option<u64>,
    kind: String,
    /// In bytes, as is `available`.
    size: u64,
    available: u64,
}

/// One mount of each device, that with the shortest path; others are bind mounts or subvolumes and have the same room.
fn distinct(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.retain(|mount| mount.size > 0 && !is_pseudo(mount));
    mounts.sort_by(|a, b| (a.path.len(), &a.path).cmp(&(b.path.len(), &b.path)));
    let (mut devices, mut ids, mut paths) = (HashSet::new(), HashSet::new(), HashSet::new());
    mounts.retain(|mount| {
        let new_device = !mount.device.starts_with('/') || devices.insert(mount.device.clone());
        let new_id = mount.device_id.is_none_or(|id| ids.insert(id));
        new_device && new_id && paths.insert(mount.path.clone())
    });
    mounts
}

/// What a program serves (`fuse.sshfs`, `fuse.portal`) is somebody else's room; a disk's driver is `fuseblk`.
/// A container's own root is an overlay and counts; the overlays of other containers, seen from the host, do not.
fn is_pseudo(mount: &Mount) -> bool {
    PSEUDO.contains(&&mount.kind[..])
        || mount.kind.starts_with("fuse.")
        || (mount.kind == "overlay" && mount.path != "/")
}

/// What is kept back for root counts as used.
fn put(pass: &mut Pass, mount: &Mount) {
    let labels = [("mount", &mount.path[..])];
    let (size, available) = (mount.size as f64, mount.available as f64);
    pass.put_of("system_filesystem_size_bytes", &labels, size);
    pass.put_of("system_filesystem_available_bytes", &labels, available);
    pass.put_of("system_filesystem_used_percent", &labels, percent(size - available, size));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_kept_once_and_pseudo_file_systems_never() {
        let mount = |path: &str, device: &str, id: u64, kind: &str, size: u64| Mount {
            path: path.to_owned(),
            device: device.to_owned(),
            device_id: Some(id),
            kind: kind.to_owned(),
            size,
            available: 1,
        };
        let mounts = vec![
            mount("/var/lib/bound", "/dev/sda1", 1, "ext4", 10),
            mount("/", "/dev/sda1", 1, "ext4", 10),
            mount("/home", "/dev/sdb", 2, "btrfs", 10),
            mount("/home/.snapshots", "/dev/sdb", 3, "btrfs", 10),
            mount("/tank/a", "tank/a", 4, "zfs", 10),
            mount("/tank/b", "tank/b", 5, "zfs", 10),
            mount("/alias", "/dev/root", 1, "ext4", 10),
            mount("/sys/kernel/debug", "debugfs", 6, "debugfs", 0),
            mount("/tmp", "tmpfs", 7, "tmpfs", 10),
            mount("/var/lib/docker/overlay2/x/merged", "overlay", 8, "overlay", 10),
            mount("/empty", "/dev/sdc", 9, "ext4", 0),
            mount("/remote", "host:/", 10, "fuse.sshfs", 10),
            mount("/ntfs", "/dev/sdd", 11, "fuseblk", 10),
        ];
        let kept: Vec<String> = distinct(mounts).into_iter().map(|mount| mount.path).collect();
        assert_eq!(kept, ["/", "/home", "/ntfs", "/tank/a", "/tank/b"]);
        assert_eq!(distinct(vec![mount("/", "overlay", 8, "overlay", 10)]).len(), 1);
    }
}
