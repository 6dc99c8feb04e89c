//! How far the bytes of one connection have come: what the broker's kernel has acknowledged, and
//! what still waits in ours. Linux tells both through its socket diagnostics (sock_diag(7)), which
//! need no privilege. TLS lies above, so its bytes are counted as well.

use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// The progress of a TCP connection's outgoing bytes, as positions in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The broker's kernel has acknowledged the bytes up to here.
    pub(crate) acknowledged: u64,
    /// Our kernel has the bytes up to here.
    pub(crate) taken: u64,
}

/// The outgoing bytes of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    ours: SocketAddr,
    brokers: SocketAddr,
}

impl Transport {
    pub(crate) fn of(socket: &TcpStream) -> std::io::Result<Self> {
        Ok(Self { ours: socket.local_addr()?, brokers: socket.peer_addr()? })
    }

    /// Asks the kernel, which answers at once. `None` where it does not tell: on other systems, in
    /// sandboxes that do not let processes ask, and for a connection that is gone.
    pub(crate) fn progress(&self) -> Option<Progress> {
        #[cfg(target_os = "linux")]
        return linux::ask(&request(self.ours, self.brokers)).and_then(|answer| progress_in(&answer));
        #[cfg(not(target_os = "linux"))]
        return None;
    }
}

/// `SOCK_DIAG_BY_FAMILY` of <linux/sock_diag.h>: the type of the request and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of <linux/netlink.h>.
const IS_REQUEST: u16 = 1;
/// `INET_DIAG_INFO` of <linux/inet_diag.h>: the attribute that holds a `struct tcp_info`.
const INFO: u16 = 2;
/// The sizes of `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// The offset of `idiag_wqueue` in `struct inet_diag_msg`: bytes that were taken and not
/// acknowledged.
const QUEUED_AT: usize = 60;
/// The offset of `tcpi_bytes_acked` in `struct tcp_info`.
const ACKNOWLEDGED_AT: usize = 120;

/// A request for what the kernel knows of one TCP connection.
fn request(ours: SocketAddr, brokers: SocketAddr) -> Vec<u8> {
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    const ANY_INTERFACE: [u8; 4] = [0; 4];
    const TCP: u8 = 6;
    let (family, extensions) = (if ours.is_ipv4() { 2 } else { 10 }, 1 << (INFO - 1));
    let length = u32::try_from(HEADER + REQUEST).expect("72");
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(length.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(IS_REQUEST.to_ne_bytes());
    // The sequence number and the sender: each question has a socket of its own.
    request.extend([0; 8]);
    request.extend([family, TCP, extensions, 0]);
    request.extend(ANY_STATE.to_ne_bytes());
    request.extend(ours.port().to_be_bytes());
    request.extend(brokers.port().to_be_bytes());
    request.extend(address(ours.ip()));
    request.extend(address(brokers.ip()));
    request.extend(ANY_INTERFACE);
    request.extend(NO_COOKIE);
    request
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The progress that an answer tells; `None` if it is an error or from a kernel that counts no
/// acknowledged bytes (before 4.1).
fn progress_in(answer: &[u8]) -> Option<Progress> {
    let length = usize::try_from(u32_at(answer, 0)?).ok()?;
    let answer = answer.get(..length)?;
    if u16_at(answer, 4)? != BY_FAMILY {
        return None;
    }
    let queued = u32_at(answer, HEADER + QUEUED_AT)?;
    let mut attributes = answer.get(HEADER + ANSWER..)?;
    loop {
        let (length, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind == INFO {
            let acknowledged = value.get(ACKNOWLEDGED_AT..ACKNOWLEDGED_AT + 8)?;
            let acknowledged = u64::from_ne_bytes(acknowledged.try_into().ok()?);
            return Some(Progress { acknowledged, taken: acknowledged + u64::from(queued) });
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(target_os = "linux")]
mod linux {
    use socket2::{Domain, Protocol, Socket, Type};
    use std::io::Read;

    /// `AF_NETLINK` and `NETLINK_SOCK_DIAG`.
    const NETLINK: i32 = 16;
    const SOCK_DIAG: i32 = 4;

    /// The answer to one question.
    pub(super) fn ask(request: &[u8]) -> Option<Vec<u8>> {
        let socket = Socket::new(Domain::from(NETLINK), Type::RAW, Some(Protocol::from(SOCK_DIAG))).ok()?;
        // The kernel answers inside of the call, so nothing is waited for.
        socket.set_nonblocking(true).ok()?;
        socket.send(request).ok()?;
        let mut answer = vec![0; 1024];
        let length = (&socket).read(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    /// Both ends of a connection over loopback. `None` on a machine without this address.
    async fn connection(address: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((address, 0)).await.ok()?;
        let (ours, brokers) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        Some((ours.unwrap(), brokers.unwrap().0))
    }

    /// What was written, and what is known about it while the other end does not read.
    async fn full(ours: &TcpStream) -> (u64, Progress) {
        let mut written = 0;
        let piece = [0; 64 << 10];
        while let Ok(count) = ours.try_write(&piece) {
            written += count as u64;
            tokio::task::yield_now().await;
        }
        (written, Transport::of(ours).unwrap().progress().expect("Linux tells"))
    }

    #[tokio::test]
    async fn what_the_other_end_does_not_read_is_taken_and_not_acknowledged() {
        for address in ["127.0.0.1", "::1"] {
            let Some((ours, mut brokers)) = connection(address).await else { continue };
            let before = Transport::of(&ours).unwrap().progress().expect("Linux tells");
            assert_eq!(before.acknowledged, before.taken);
            let (written, full) = full(&ours).await;
            assert_eq!(full.taken - before.taken, written);
            assert!(full.acknowledged < full.taken, "{full:?}");

            let mut rest = vec![0; usize::try_from(written).unwrap()];
            brokers.read_exact(&mut rest).await.unwrap();
            let later = Transport::of(&ours).unwrap().progress().expect("Linux tells");
            assert!(later.acknowledged > full.acknowledged && later.taken == full.taken, "{later:?}");
        }
    }

    #[tokio::test]
    async fn of_a_connection_that_is_gone_nothing_is_known() {
        let (ours, brokers) = connection("127.0.0.1").await.expect("every machine has it");
        let transport = Transport::of(&ours).unwrap();
        socket2::SockRef::from(&ours).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop((ours, brokers));
        assert_eq!(transport.progress(), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_an_error_tells_nothing() {
        let mut answer = vec![0; HEADER + ANSWER + 4 + 128];
        let length = u32::try_from(answer.len()).unwrap();
        answer[..4].copy_from_slice(&length.to_ne_bytes());
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[HEADER + QUEUED_AT] = 7;
        answer[HEADER + ANSWER..][..2].copy_from_slice(&132u16.to_ne_bytes());
        answer[HEADER + ANSWER + 2..][..2].copy_from_slice(&INFO.to_ne_bytes());
        answer[HEADER + ANSWER + 4 + ACKNOWLEDGED_AT] = 5;
        let queued = u32_at(&answer, HEADER + QUEUED_AT).unwrap();
        let told = progress_in(&answer).unwrap();
        assert_eq!(told.taken - told.acknowledged, u64::from(queued));
        for length in 0..answer.len() {
            assert_eq!(progress_in(&answer[..length]), None);
        }
        const ERROR: u16 = 2;
        answer[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        assert_eq!(progress_in(&answer), None);
    }
}
