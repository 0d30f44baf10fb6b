//! One fetch of a file by TFTP, as its client sees it: packets in, acknowledgements out.
//! Every octet is compared. It must not know sockets or the clock.

/// The file, by a name that the daemon knows.
pub(crate) const FILE: &str = "undionly.kpxe";

/// Octets before a block.
const HEADER: usize = 4;

pub(crate) struct Fetched<'a> {
    file: &'a [u8],
    pub(crate) block: usize,
    pub(crate) window: u16,
    /// The number of the last block that came in order, from 1, without the wrap.
    last: usize,
    /// Blocks since the last ACK.
    since: u16,
    /// Whether an ACK for a gap was sent already.
    gap: bool,
    is_over: bool,
}

/// What a packet was worth.
pub(crate) enum Heard {
    /// It is wanted, and nothing is to be said yet.
    Taken,
    /// It is another than the next.
    Surplus,
    /// It is wanted, and this is to be said.
    Say([u8; 4]),
    /// It shows that one before it was lost, and this is to be said.
    Gap([u8; 4]),
}

impl<'a> Fetched<'a> {
    pub(crate) const fn new(file: &'a [u8]) -> Self {
        let (block, window) = (512, 1);
        Self { file, block, window, last: 0, since: 0, gap: false, is_over: false }
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Octets that came in order.
    pub(crate) fn octets(&self) -> usize {
        (self.last * self.block).min(self.file.len())
    }

    /// After a silence a gap is told again.
    pub(crate) const fn forget_gap(&mut self) {
        self.gap = false;
    }

    /// The packets that one datagram holds: blocks of one size that the kernel has
    /// left together.
    pub(crate) fn packets<'b>(
        &self,
        datagram: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let is_block = datagram.starts_with(&[0, 3]);
        datagram.chunks(if is_block { HEADER + self.block } else { datagram.len().max(1) })
    }

    /// What it is worth.
    pub(crate) fn hear(&mut self, packet: &[u8]) -> Heard {
        match packet {
            [0, 6, options @ ..] => {
                let texts: Vec<&str> = options
                    .split(|byte| *byte == 0)
                    .map(|text| std::str::from_utf8(text).expect("text"))
                    .collect();
                for pair in texts.chunks_exact(2) {
                    match pair[0].to_lowercase().as_str() {
                        "blksize" => self.block = pair[1].parse().expect("a number"),
                        "windowsize" => self.window = pair[1].parse().expect("a number"),
                        _ => {}
                    }
                }
                Heard::Say([0, 4, 0, 0])
            }
            [0, 3, a, b, content @ ..] => self.block(u16::from_be_bytes([*a, *b]), content),
            _ => panic!("{:?}", String::from_utf8_lossy(packet)),
        }
    }

    fn block(&mut self, number: u16, content: &[u8]) -> Heard {
        if number != (self.last + 1) as u16 {
            // RFC 7440 §4: the last one in order, once for a gap.
            if std::mem::replace(&mut self.gap, true) {
                return Heard::Surplus;
            }
            return Heard::Gap(self.acknowledge());
        }
        let from = self.last * self.block;
        let until = (from + self.block).min(self.file.len());
        assert!(content == &self.file[from..until], "block {} is another", self.last + 1);
        self.last += 1;
        self.since += 1;
        self.gap = false;
        self.is_over = content.len() < self.block;
        if self.is_over || self.since >= self.window {
            return Heard::Say(self.acknowledge());
        }
        Heard::Taken
    }

    fn acknowledge(&mut self) -> [u8; 4] {
        self.since = 0;
        let [a, b] = (self.last as u16).to_be_bytes();
        [0, 4, a, b]
    }
}

/// A request for the file.
pub(crate) fn request(block: usize, window: u16) -> Vec<u8> {
    let window = if window > 1 { format!("windowsize\0{window}\0") } else { String::new() };
    let text = format!("{FILE}\0octet\0blksize\0{block}\0{window}");
    [&[0, 1], text.as_bytes()].concat()
}
