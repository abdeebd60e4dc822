//! Where this machine is in the network. Nobody outside is asked.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::wall_us;

/// How old a look may be.
const AGE: Duration = Duration::from_secs(3600);
/// Addresses for documentation: a route to them is looked up, and nothing is sent.
const ELSEWHERE: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// The interface by which we reach others: that of the default route, or else the first one. What there is not is "".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkInterface {
    /// `eth0`.
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac_address: String,
    /// Where our connections to others come from.
    pub local_ip: String,
    /// The first that the system is told.
    pub dns_server: String,
    /// Microseconds since the epoch.
    pub observed_at_us: i64,
}

impl NetworkInterface {
    /// As it is now.
    pub fn observe() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let name = default_route(&read("/proc/net/route"))
            .or_else(|| default_route6(&read("/proc/net/ipv6_route")))
            .or_else(|| first_interface(Path::new("/sys/class/net")))
            .unwrap_or_default();
        let mac = match name.as_str() {
            "" => String::new(),
            name => read(&format!("/sys/class/net/{name}/address")).trim().to_owned(),
        };
        Self {
            mac_address: if mac.bytes().all(|b| b == b'0' || b == b':') { String::new() } else { mac },
            local_ip: local_ip().map(|ip| ip.to_string()).unwrap_or_default(),
            dns_server: name_server(&read("/etc/resolv.conf")).unwrap_or_default(),
            observed_at_us: wall_us(),
            name,
        }
    }
}

/// The interface, looked at anew when the last look is older than an hour.
#[derive(Debug, Default)]
pub struct Network(Mutex<Option<(Instant, NetworkInterface)>>);

impl Network {
    /// At most an hour old.
    pub fn current(&self) -> NetworkInterface {
        self.at(Instant::now(), NetworkInterface::observe)
    }

    fn at(&self, now: Instant, look: impl FnOnce() -> NetworkInterface) -> NetworkInterface {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((looked, seen)) if now.saturating_duration_since(*looked) < AGE => seen.clone(),
            _ => kept.insert((now, look())).1.clone(),
        }
    }
}

/// Of the default routes that are up, the one with the lowest metric.
fn default_route(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, destination, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let up = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        let everything = destination == "00000000" && mask == "00000000";
        (up && everything).then(|| Some((metric.parse::<u32>().ok()?, name.to_owned())))?
    });
    routes.min().map(|(_, name)| name)
}

fn default_route6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, _, metric, _, _, _, name] = fields[..] else { return None };
        let everything = length == "00" && destination.bytes().all(|b| b == b'0');
        // The kernel has one that refuses, on lo.
        let usable = everything && name != "lo";
        usable.then(|| Some((u32::from_str_radix(metric, 16).ok()?, name.to_owned())))?
    });
    routes.min().map(|(_, name)| name)
}

fn first_interface(directory: &Path) -> Option<String> {
    let names = std::fs::read_dir(directory).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.min_by_key(|name| (name == "lo", name.clone()))
}

fn local_ip() -> Option<IpAddr> {
    ELSEWHERE.iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

fn name_server(conf: &str) -> Option<String> {
    conf.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A20, A21
    #[test]
    fn it_is_looked_at_anew_after_an_hour() {
        let network = Network::default();
        let look = |name: &str| NetworkInterface { name: name.to_owned(), ..NetworkInterface::default() };
        let now = Instant::now();
        assert_eq!(network.at(now, || look("eth0")).name, "eth0");
        assert_eq!(network.at(now + AGE - Duration::from_millis(1), || look("eth1")).name, "eth0");
        assert_eq!(network.at(now + AGE, || look("eth1")).name, "eth1");
        assert_eq!(network.at(now + AGE, || look("eth2")).name, "eth1");
    }

    /// A20
    #[test]
    fn the_default_route_names_the_interface() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let table = format!(
            "{head}eth2\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth1\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth3\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        assert_eq!(default_route(&table).as_deref(), Some("eth0"));
        assert_eq!(default_route(head), None);
        let zero = "0".repeat(32);
        let line = |metric: &str, name: &str| {
            format!("{zero} 00 {zero} 00 {zero} {metric} 00000001 00000000 00000003 {name}\n")
        };
        let table = line("00000001", "lo") + &line("00000400", "wlan0");
        assert_eq!(default_route6(&table).as_deref(), Some("wlan0"));
        assert_eq!(
            name_server("# nameserver 1.1.1.1\nsearch a\nnameserver 127.0.0.53\nnameserver 9.9.9.9\n")
                .as_deref(),
            Some("127.0.0.53")
        );
        let dir = tempfile::tempdir().unwrap();
        for name in ["lo", "veth1", "eth7"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(first_interface(dir.path()).as_deref(), Some("eth7"));
    }

    /// A20: what the system tells of this very machine is in its form.
    #[test]
    fn this_machine_tells_its_interface() {
        let seen = NetworkInterface::observe();
        assert!(seen.observed_at_us > 0);
        assert!(seen.local_ip.is_empty() || seen.local_ip.parse::<IpAddr>().is_ok(), "{seen:?}");
        assert!(seen.mac_address.is_empty() || seen.mac_address.split(':').count() >= 6, "{seen:?}");
    }
}
