//! Which options an answer has, and how much each matters to the client. Pure.

use super::{
    answer::{BootFile, Reply, ReplyKind},
    layout::{Rank, Told},
    request::Request,
};
use crate::model::{DhcpOptions, LeaseTimes, Route, Rung, addresses_value};

/// "Use the boot file named here, ask no boot server" (PXE 2.1 §2.2.4: option
/// 43, suboption 6 `PXE_DISCOVERY_CONTROL` with bit 3). Without it UEFI takes
/// option 60 `PXEClient` for "ask port 4011", and fails where nothing answers;
/// with it the plain ROM does not wait four seconds for a proxyDHCP server.
const DISCOVERY_CONTROL: [u8; 3] = [6, 1, 8];

/// The suboption of option 43 for the VLAN, its number as a text: what PXE 2.1 leaves to
/// boot programs, and scripts of iPXE read as `${43.116:string}`.
const VLAN: u8 = 116;

/// What ends option 43 (RFC 2132 §8.4).
const END: u8 = 255;

/// iPXE's suboption 176 of option 175, "no proxyDHCP will come": it saves the
/// three seconds that iPXE waits for one.
const NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

/// What no client does without, in this order: the kind of the answer and who
/// gives it; how long the address is a machine's; the mask, which goes before the
/// router (RFC 2132 §3.3); what is booted; what must come back (RFC 4578 §2.3,
/// RFC 3011, RFC 6842).
const NEEDED: [u8; 12] = [53, 54, 51, 1, 3, 67, 60, 43, 175, 97, 61, 118];

/// What would send a machine that boots elsewhere than we do.
const OF_BOOTING: [u8; 6] = [43, 60, 66, 67, 150, 175];

/// The options of this answer but 82, which is not ours.
pub(super) fn of(request: &Request, reply: &Reply) -> Vec<Told> {
    let mut all = Collected(Vec::with_capacity(ROOM));
    let is_proxy = is_proxy(reply.kind);
    if is_proxy {
        // The network is the other server's to describe.
        all.boot(request, reply);
    } else if reply.kind != ReplyKind::Refuse {
        all.layer(&reply.subnet.options);
        all.network(reply);
        all.layer(&reply.own);
        all.machine(reply);
        all.boot(request, reply);
    }
    let kind = match reply.kind {
        ReplyKind::Offer(_) | ReplyKind::ProxyOffer(_) => 2,
        ReplyKind::Acknowledge(_)
        | ReplyKind::Inform
        | ReplyKind::ProxyBeside
        | ReplyKind::ProxyAcknowledge(_) => 5,
        ReplyKind::Refuse => 6,
    };
    all.set(53, &[kind]);
    all.set(54, &reply.server.octets());
    if let Some(identifier) = &request.route.client_identifier {
        all.set(61, identifier);
    }
    if let Some(network) = request.route.subnet_selection {
        all.set(118, &network.octets());
    }
    all.ranked(&request.parameters)
}

const fn is_proxy(kind: ReplyKind) -> bool {
    match kind {
        ReplyKind::ProxyOffer(_) | ReplyKind::ProxyBeside | ReplyKind::ProxyAcknowledge(_) => true,
        ReplyKind::Offer(_) | ReplyKind::Acknowledge(_) | ReplyKind::Inform | ReplyKind::Refuse => {
            false
        }
    }
}

/// Options that most answers have room in.
const ROOM: usize = 24;

/// Options in the order in which they were set, each once: they are few.
struct Collected(Vec<(u8, Vec<u8>)>);

impl Collected {
    fn set(&mut self, code: u8, value: &[u8]) {
        match self.get_mut(code) {
            Some(known) => *known = value.to_vec(),
            None => self.0.push((code, value.to_vec())),
        }
    }

    fn get_mut(&mut self, code: u8) -> Option<&mut Vec<u8>> {
        self.0.iter_mut().find(|(known, _)| *known == code).map(|(_, value)| value)
    }

    fn layer(&mut self, options: &DhcpOptions) {
        options.iter().for_each(|(code, value)| self.set(code, value));
    }

    fn network(&mut self, reply: &Reply) {
        let subnet = &reply.subnet;
        self.set(1, &subnet.network.netmask().octets());
        self.set(28, &subnet.network.broadcast().octets());
        self.set(3, &subnet.gateway.octets());
        if !subnet.dns.is_empty() {
            self.set(6, &addresses_value(&subnet.dns));
        }
        if matches!(reply.kind, ReplyKind::Offer(_) | ReplyKind::Acknowledge(_)) {
            let LeaseTimes { renew, rebind, lease } = reply.times;
            for (code, seconds) in [(51, lease), (58, renew), (59, rebind)] {
                self.set(code, &seconds.0.to_be_bytes());
            }
        }
    }

    fn machine(&mut self, reply: &Reply) {
        if let Some(hostname) = &reply.hostname {
            self.set(12, hostname.as_str().as_bytes());
        }
        // Who takes option 121 leaves option 3 aside (RFC 3442).
        let router = self.get_mut(3).cloned();
        if let Some(routes) = self.get_mut(121).filter(|routes| !Route::has_default(routes)) {
            routes.push(0);
            routes.extend(router.unwrap_or_default());
        }
    }

    fn boot(&mut self, request: &Request, reply: &Reply) {
        let Ok(boot) = &reply.boot else { return };
        self.0.retain(|(code, _)| !OF_BOOTING.contains(code));
        self.set(67, boot.name().as_bytes());
        let is_proxy = is_proxy(reply.kind);
        let asks_boot_server =
            matches!(reply.kind, ReplyKind::ProxyOffer(told) if told.rung == Rung::BootServer);
        let mut inside = Vec::new();
        match boot {
            BootFile::Program { .. } => {
                self.set(60, b"PXEClient");
                if !asks_boot_server {
                    inside.extend(DISCOVERY_CONTROL);
                }
            }
            // iPXE tells the offer of a proxy by this class alone.
            BootFile::Script(_) if is_proxy => {
                self.set(60, b"PXEClient");
                inside.extend(DISCOVERY_CONTROL);
            }
            // UEFI HTTP Boot takes only what calls itself so (UEFI 2.10 §24.7.2).
            BootFile::ProgramUrl(_) => self.set(60, b"HTTPClient"),
            BootFile::Script(_) => self.set(175, &NO_PROXY_DHCP),
        }
        // The form that is told without option 43 is told without it.
        if let Some(vlan) = reply.vlan.filter(|_| !asks_boot_server) {
            let text = vlan.to_string().into_bytes();
            inside.extend([VLAN, u8::try_from(text.len()).expect("four digits at most")]);
            inside.extend(text);
        }
        if !inside.is_empty() {
            inside.push(END);
            self.set(43, &inside);
        }
        // RFC 4578 §2.3: a PXE client's identifier comes back.
        let wants_it = is_proxy || matches!(boot, BootFile::Program { .. });
        if let Some(identifier) = request.machine_identifier.as_ref().filter(|_| wants_it) {
            self.set(97, identifier);
        }
    }

    /// All of them with their ranks: those that are needed in their order, others by
    /// their codes.
    fn ranked(mut self, parameters: &[u8]) -> Vec<Told> {
        let needed = |code: u8| NEEDED.iter().position(|needed| *needed == code);
        self.0.sort_unstable_by_key(|(code, _)| (needed(*code).unwrap_or(NEEDED.len()), *code));
        let told = self.0.into_iter().map(|(code, value)| {
            let place = parameters.iter().position(|asked| *asked == code);
            let rank = match needed(code) {
                Some(_) => Rank::Needed,
                None => place.map_or(Rank::Spare, Rank::Asked),
            };
            Told { code, value, rank }
        });
        told.collect()
    }
}
