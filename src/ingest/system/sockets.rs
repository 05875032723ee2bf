//! What the kernel says of sockets: packets it dropped because nobody had taken those before them.

use std::net::SocketAddr;

/// Packets that came to the UDP socket bound to `address` and were dropped by the kernel since it was made. `None` where
/// no kernel tells, or there is no such socket.
pub(crate) fn udp_drops(address: SocketAddr) -> Option<u64> {
    let table = if address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    parse_drops(&std::fs::read_to_string(table).ok()?, &written(address))
}

/// An address as the kernel writes it: words of 32 bits in hexadecimal, each as this machine holds it.
fn written(address: SocketAddr) -> String {
    let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
    let ip: String = match address {
        SocketAddr::V4(address) => word(address.ip().octets()),
        SocketAddr::V6(address) => {
            let octets = address.ip().octets();
            octets.chunks_exact(4).map(|four| word([four[0], four[1], four[2], four[3]])).collect()
        }
    };
    format!("{ip}:{:04X}", address.port())
}

/// The last column of the line of a socket that listens to anybody.
fn parse_drops(table: &str, local: &str) -> Option<u64> {
    let of = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.nth(1)? == local && words.next()?.bytes().all(|byte| matches!(byte, b'0' | b':'));
        is_it.then(|| words.last()?.parse().ok()).flatten()
    };
    table.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_the_socket_that_listens() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 7625: 0100007F:C736 0100007F:0001 07 00000000:00001D40 00:00000000 00000000     0        0 407441 2 000000009751f1db 7
 7625: 0100007F:C736 00000000:0000 07 00000000:00001D40 00:00000000 00000000     0        0 407440 2 000000009751f1db 991
";
        assert_eq!(parse_drops(table, "0100007F:C736"), Some(991));
        assert_eq!(parse_drops(table, "0100007F:C737"), None);
        assert_eq!(parse_drops("1: 0100007F:C736", "0100007F:C736"), None);
    }

    #[cfg(all(target_os = "linux", target_endian = "little"))]
    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        assert_eq!(written("127.0.0.1:50998".parse().unwrap()), "0100007F:C736");
        assert_eq!(written("[::1]:35077".parse().unwrap()), "00000000000000000000000001000000:8905");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_socket_drops_and_says_so() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..100).for_each(|_| assert_eq!(sender.send_to(&[b'x'; 1000], address).unwrap(), 1000));
        socket.set_nonblocking(true).unwrap();
        let taken = (0..100).filter(|_| socket.recv(&mut [0; 2000]).is_ok()).count() as u64;
        assert_eq!(udp_drops(address), Some(100 - taken));
        assert!(taken < 100);
    }
}
