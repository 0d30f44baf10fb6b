//! Options to bytes in the space that a client takes: which are left out when
//! it is short, which are written in pieces, which go into other fields. Pure.

/// An option, and how much it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) code: u8,
    pub(super) value: Vec<u8>,
    pub(super) rank: Rank,
}

/// How much an option matters, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Without it the answer is none.
    Needed,
    /// The client asked for it, as its so-manieth.
    Asked(usize),
    /// Nobody asked.
    Spare,
}

/// Where options may be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// Bytes of the options field, without its end mark.
    pub(super) options: usize,
    /// Whether `file` and `sname` may hold options (RFC 2132 §9.3): iPXE takes
    /// them for names all the same.
    pub(super) overload: bool,
}

/// What the three fields hold, each without its end mark; an empty one holds no
/// options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) options: Vec<u8>,
    pub(super) file: Vec<u8>,
    pub(super) sname: Vec<u8>,
}

/// The bytes of `file` and `sname`, their end marks included (RFC 2131 §2).
pub(super) const FILE: usize = 128;
pub(super) const SNAME: usize = 64;

/// Option 52 with its length and value.
const OVERLOAD: usize = 3;

/// Puts the options into the space: all if they fit; else without those that
/// nobody asked for, the last first; else with the other fields; else without
/// those that the client asked for last. If even what is needed does not fit, the
/// bytes that it would take.
pub(super) fn fit(mut options: Vec<Told>, space: Space) -> Result<Layout, usize> {
    options.sort_by_key(|told| told.rank);
    loop {
        let size: usize = options.iter().map(size_of).sum();
        if size <= space.options {
            let mut bytes = Vec::with_capacity(size);
            options.iter().for_each(|told| write(told, &mut bytes));
            return Ok(Layout { options: bytes, ..Layout::default() });
        }
        let least = options.last().map(|told| told.rank);
        if space.overload
            && least != Some(Rank::Spare)
            && let Some(layout) = spread(&options, space.options)
        {
            return Ok(layout);
        }
        if least.is_none_or(|rank| rank == Rank::Needed) {
            return Err(size);
        }
        options.pop();
    }
}

/// The options over three fields, each whole in the first one that has room.
fn spread(options: &[Told], room: usize) -> Option<Layout> {
    let rooms = [room.checked_sub(OVERLOAD)?, FILE - 1, SNAME - 1];
    let mut fields: [Vec<u8>; 3] = Default::default();
    for told in options {
        let place = (0..3).find(|place| fields[*place].len() + size_of(told) <= rooms[*place])?;
        write(told, &mut fields[place]);
    }
    let [mut options, file, sname] = fields;
    let used = u8::from(!file.is_empty()) + 2 * u8::from(!sname.is_empty());
    options.extend_from_slice(&[52, 1, used]);
    Some(Layout { options, file, sname })
}

fn write(told: &Told, bytes: &mut Vec<u8>) {
    append(bytes, told.code, &told.value);
}

/// Writes an option; what is longer than 255 bytes in pieces (RFC 3396).
pub(super) fn append(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    // What is empty is one piece, too.
    let whole = std::iter::once(value).filter(|value| value.is_empty());
    for piece in whole.chain(value.chunks(255)) {
        let length = u8::try_from(piece.len()).expect("a piece has 255 bytes at most");
        bytes.extend_from_slice(&[code, length]);
        bytes.extend_from_slice(piece);
    }
}

fn size_of(told: &Told) -> usize {
    encoded_size(&told.value)
}

/// The bytes that an option with this value takes.
pub(super) fn encoded_size(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(255).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(code: u8, length: usize, rank: Rank) -> Told {
        Told { code, value: vec![code; length], rank }
    }

    fn codes(mut field: &[u8]) -> Vec<u8> {
        let mut codes = Vec::new();
        while let [code, length, rest @ ..] = field {
            codes.push(*code);
            field = &rest[usize::from(*length)..];
        }
        codes
    }

    const SHORT: [usize; 2] = [100, 40];

    fn fitted(options: usize, overload: bool) -> Result<[Vec<u8>; 3], usize> {
        let told = vec![
            told(3, SHORT[1] - 2, Rank::Spare),
            told(1, SHORT[0] - 2, Rank::Needed),
            told(6, SHORT[1] - 2, Rank::Asked(1)),
            told(5, SHORT[1] - 2, Rank::Asked(0)),
        ];
        let layout = fit(told, Space { options, overload })?;
        Ok([codes(&layout.options), codes(&layout.file), codes(&layout.sname)])
    }

    #[test]
    fn what_nobody_asked_for_is_left_out_before_anything_else() {
        for overload in [false, true] {
            assert_eq!(fitted(220, overload), Ok([vec![1, 5, 6, 3], vec![], vec![]]));
            assert_eq!(fitted(219, overload), Ok([vec![1, 5, 6], vec![], vec![]]));
            assert_eq!(fitted(180, overload), Ok([vec![1, 5, 6], vec![], vec![]]));
        }
    }

    #[test]
    fn the_other_fields_are_used_only_when_they_may_and_only_when_they_must() {
        assert_eq!(fitted(179, true), Ok([vec![1, 5, 52], vec![6], vec![]]));
        assert_eq!(fitted(103, true), Ok([vec![1, 52], vec![5, 6], vec![]]));
        assert_eq!(fitted(102, true), Ok([vec![5, 6, 52], vec![1], vec![]]));
        assert_eq!(fitted(43, true), Ok([vec![5, 52], vec![1], vec![6]]));
        assert_eq!(fitted(179, false), Ok([vec![1, 5], vec![], vec![]]));
        assert_eq!(fitted(139, false), Ok([vec![1], vec![], vec![]]));
        assert_eq!(fitted(99, false), Err(100));
    }

    #[test]
    fn a_long_option_is_written_in_pieces() {
        let mut bytes = Vec::new();
        append(&mut bytes, 119, &[7; 600]);
        assert_eq!(bytes.len(), encoded_size(&[7; 600]));
        assert_eq!(codes(&bytes), [119, 119, 119]);
        assert_eq!((bytes[1], bytes[258], bytes[515]), (255, 255, 90));
        let mut empty = Vec::new();
        append(&mut empty, 82, &[]);
        assert_eq!(empty, [82, 0]);
    }

    proptest! {
        /// Whatever is told and whatever room there is: no field is too full, what
        /// is needed is there, and nothing is there twice.
        #[test]
        fn no_field_is_too_full_and_what_is_needed_is_there(
            lengths in proptest::collection::vec((0usize..300, 0usize..3), 1..30),
            options in 0usize..1500,
            overload: bool,
        ) {
            let ranks = [Rank::Needed, Rank::Asked(7), Rank::Spare];
            let all: Vec<Told> = (1u8..).zip(lengths)
                .map(|(code, (length, rank))| told(code, length, ranks[rank])).collect();
            let needed: Vec<u8> = all.iter()
                .filter(|told| told.rank == Rank::Needed).map(|told| told.code).collect();
            let Ok(layout) = fit(all, Space { options, overload }) else {
                prop_assert!(!needed.is_empty());
                return Ok(());
            };
            prop_assert!(layout.options.len() <= options);
            prop_assert!(layout.file.len() < FILE && layout.sname.len() < SNAME);
            prop_assert!(overload || layout.file.is_empty() && layout.sname.is_empty());
            let mut found: Vec<u8> =
                [&layout.options, &layout.file, &layout.sname].into_iter().flat_map(|field| codes(field)).collect();
            found.dedup();
            prop_assert!(needed.iter().all(|code| found.contains(code)));
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            prop_assert_eq!(found.len(), count);
        }
    }
}
