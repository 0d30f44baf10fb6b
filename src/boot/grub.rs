//! What GRUB is told: the same decision as iPXE's script, as the `grub.cfg` of one
//! machine.
//!
//! GRUB is the boot program that distributions sign, so it is what boots behind
//! Secure Boot with nothing of one's own. Every configuration but one that leaves
//! for the machine's own disk ends in a loop that loads it again: nobody falls into
//! GRUB's prompt. All texts stand in single quotes, in which GRUB's shell expands
//! nothing (GRUB 2.12 manual, §6.2). Pure.

use std::fmt::Write as _;

use super::{
    AGAIN, Asker, Claim, Next, Policy, Script, Sighting, cmdline, local, next,
    plan::{Card, Unscriptable, plan},
    script::{waiting, within_boot},
};
use crate::{
    model::{Architecture, LocalBoot, Mac, Stage, Timestamp},
    state::State,
};

/// What GRUB calls its configuration; with more behind it, that of one machine.
const NAME: &str = "grub.cfg";

/// Seconds between two questions of a machine that waits.
const HOLD: u32 = 5;

/// Seconds until a machine asks again that could not load what it was told, or whose
/// configuration cannot be made.
const TROUBLE: u32 = 10;

/// Which configuration is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigName {
    /// The machine, if the name says it.
    pub claim: Claim,
    /// Whether it is asked for again in the same boot.
    pub is_again: bool,
}

/// What the last part of a path asks for, if it is a configuration of GRUB's:
/// `grub.cfg`, and the names that GRUB tries before it (manual, §5.4), with the
/// card's address (`grub.cfg-01-52-54-00-aa-01-01`), or with a UUID or an address in
/// hexadecimal, which are not believed.
#[must_use]
pub fn config_name(name: &str) -> Option<ConfigName> {
    let rest = name.strip_prefix(NAME)?;
    if rest.is_empty() {
        return Some(ConfigName { claim: Claim::None, is_again: false });
    }
    let rest = rest.strip_prefix('-')?;
    let again = rest.strip_suffix(AGAIN).and_then(|rest| rest.strip_suffix('-'));
    let (which, is_again) = again.map_or((rest, false), |which| (which, true));
    if let Some(mac) = which.strip_prefix("01-").and_then(|mac| mac.parse().ok()) {
        return Some(ConfigName { claim: Claim::Mac(mac), is_again });
    }
    let is_number = (1..=36).contains(&which.len())
        && which.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_number.then_some(ConfigName { claim: Claim::None, is_again: false })
}

/// The configuration for whoever asks.
#[must_use]
pub fn config_for(state: &State, policy: &Policy, asker: Asker, now: Timestamp) -> Script {
    let mut text = String::new();
    let Some(mac) = asker.mac else {
        say_who_you_are(&mut text);
        return Script { text, sighting: None };
    };
    let next = next(state, policy, (mac, asker.address), now);
    let (next, is_same_boot) = within_boot(next, asker);
    let (mut learned, treatment) = (None, next.treatment());
    let stage = match next {
        Next::Ignore => {
            text.push_str("exit 1\n");
            return Script { text, sighting: None };
        }
        Next::Hold => {
            show(&mut text, &waiting(state, mac));
            ask_again(&mut text, (&own_name(mac), HOLD));
            Stage::Holding
        }
        Next::GaveUp(instance) => {
            let boots = instance.progress.boots;
            show(
                &mut text,
                &format!("{mac} was booted {boots} times and never reported in: it waits"),
            );
            ask_again(&mut text, (&own_name(mac), HOLD));
            Stage::Holding
        }
        Next::Local(_) => {
            show(&mut text, &format!("{mac} boots from its own disk"));
            let (way, habits) = local::of_script(state, &policy.rules, (mac, asker.address), now);
            let known = state.machines.with_card(mac);
            start_disk(&mut text, known.and_then(|machine| machine.architecture));
            text.push_str(match way {
                LocalBoot::ExitZero => "exit 0\n",
                // UEFI goes on with its next boot entry when a boot program fails.
                LocalBoot::Exit | LocalBoot::NoOffer | LocalBoot::Sanboot => "exit 1\n",
            });
            learned = habits;
            Stage::Local
        }
        next @ (Next::Instance(..) | Next::Unclaimed(_)) => {
            let machine = state.machines.with_card(mac);
            let vlan = policy.paths.vlan(machine, asker.address);
            let (machine, address) = (state.machines.of_card(mac), asker.address);
            match lines(policy, next, Card { mac, machine, address, vlan }) {
                Ok(loading) => {
                    boot(&mut text, (mac, &loading));
                    Stage::Script
                }
                Err(error) => {
                    show(&mut text, &format!("{mac} cannot boot: {error}"));
                    ask_again(&mut text, (&own_name(mac), TROUBLE));
                    Stage::Holding
                }
            }
        }
    };
    let is_new = !(is_same_boot && stage == Stage::Script);
    let sighting = Sighting { learned, treatment, ..Sighting::new(mac, stage) };
    Script { text, sighting: is_new.then_some(sighting) }
}

/// The commands that load the kernel and its initrds, in this order.
fn lines(policy: &Policy, next: Next<'_>, card: Card) -> Result<Vec<String>, Unscriptable> {
    // The names of initrds are for iPXE's: GRUB hands them on itself.
    let plan = plan(policy, next, card, |template, variables, _initrds| {
        cmdline::render(template, variables)
    })?;
    let mut files = plan.urls.iter().map(|url| file(url).map(|file| quoted(&file)));
    let kernel = files.next().transpose()?.unwrap_or_default();
    let arguments = arguments(&plan.cmdline)?;
    let words = arguments.iter().map(|word| quoted(word));
    let linux = [String::from("linux"), kernel].into_iter().chain(words);
    let mut commands = vec![linux.collect::<Vec<_>>().join(" ")];
    let initrds = files.collect::<Result<Vec<_>, _>>()?;
    if !initrds.is_empty() {
        commands.push(format!("initrd {}", initrds.join(" ")));
    }
    Ok(commands)
}

/// A URL as GRUB writes it: `(http,10.0.0.1:8080)/boot/vmlinuz`.
fn file(url: &str) -> Result<String, Unscriptable> {
    let no_http = || Unscriptable::NoHttp(url.to_owned());
    let (authority, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(no_http)?;
    // A comma or a parenthesis would end the name of the server in GRUB.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(is_plain) {
        return Err(no_http());
    }
    Ok(format!("(http,{authority})/{path}"))
}

/// The arguments that make GRUB hand on this command line. GRUB joins them with
/// blanks, puts one that has a blank in double quotes, and a backslash before each
/// quote and backslash of its own (2.12, `grub_create_loader_cmdline`). So
/// `a="b c"` is the one argument `a=b c`, which the kernel reads as the same (Linux,
/// `next_arg`); what it would not read as the same is refused.
fn arguments(cmdline: &str) -> Result<Vec<String>, Unscriptable> {
    let refused = |what: &'static str| Unscriptable::ForGrub(what);
    let (mut arguments, mut argument) = (Vec::new(), String::new());
    let (mut is_quoted, mut was_quoted) = (false, false);
    for character in cmdline.chars() {
        let ends = character == ' ' && !is_quoted;
        match character {
            '\\' | '\'' => return Err(refused("a backslash or a single quote")),
            // Of a whole argument, or of the value behind the first `=`.
            '"' if !is_quoted && !was_quoted && may_open(&argument) => {
                (is_quoted, was_quoted) = (true, true);
            }
            '"' if is_quoted => is_quoted = false,
            '"' => return Err(refused("double quotes in the middle of a word")),
            ' ' if ends => {
                if !argument.is_empty() {
                    arguments.push(std::mem::take(&mut argument));
                }
                was_quoted = false;
            }
            _ if was_quoted && !is_quoted => {
                return Err(refused("double quotes in the middle of a word"));
            }
            character => argument.push(character),
        }
    }
    if is_quoted {
        return Err(refused("double quotes that are not closed"));
    }
    arguments.extend((!argument.is_empty()).then_some(argument));
    Ok(arguments)
}

/// Whether what stands before a double quote lets it be for the whole value.
fn may_open(before: &str) -> bool {
    before.is_empty() || before.find('=') == Some(before.len() - 1)
}

/// A word of GRUB's shell that is this text, whatever is in it: between single
/// quotes everything stands for itself, and one of them is written outside of them.
/// What could end a line is left out of sight.
fn quoted(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let inner = plain.fold(String::new(), |mut inner, character| {
        match character {
            '\'' => inner.push_str("'\\''"),
            character => inner.push(character),
        }
        inner
    });
    format!("'{inner}'")
}

/// A line on the console.
fn show(text: &mut String, shown: &str) {
    line(text, format_args!("echo {}\n", quoted(&format!("remoteboot: {shown}"))));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String has no errors");
}

/// The name by which this machine asks for its own.
fn own_name(mac: Mac) -> String {
    format!("{NAME}-01-{}", mac.hyphenated())
}

/// GRUB has the address of the card that it was loaded by.
fn say_who_you_are(text: &mut String) {
    line(
        text,
        format_args!(
            "if [ -n \"$net_default_mac\" ]; then\n  \
             source \"$prefix/{NAME}-01-$net_default_mac\"\nfi\n"
        ),
    );
    ask_again(text, (NAME, HOLD));
}

fn boot(text: &mut String, (mac, loading): (Mac, &[String])) {
    show(text, &format!("{mac} loads what it boots"));
    for command in loading {
        line(text, format_args!("if {command}; then\n"));
    }
    text.push_str("boot\n");
    text.push_str(&"fi\n".repeat(loading.len()));
    show(text, &format!("{mac} could not boot; it asks again in {TROUBLE} s"));
    ask_again(text, (&format!("{}-{AGAIN}", own_name(mac)), TROUBLE));
}

/// Where systems put the program that starts them (UEFI 2.10 §3.5.1.1 for the last),
/// with the letters of the architecture in the place of `@`. Behind `BOOT` may be one
/// that only writes boot entries and starts anew, so it comes last.
const ON_DISK: [&str; 14] = [
    "debian/shim@.efi",
    "ubuntu/shim@.efi",
    "fedora/shim@.efi",
    "redhat/shim@.efi",
    "centos/shim@.efi",
    "rocky/shim@.efi",
    "almalinux/shim@.efi",
    "sles/shim.efi",
    "opensuse/shim.efi",
    "debian/grub@.efi",
    "ubuntu/grub@.efi",
    "systemd/systemd-boot@.efi",
    "Microsoft/Boot/bootmgfw.efi",
    "BOOT/BOOT@.EFI",
];

/// Starts what is on the machine's disk, which must be `root`: that is the device that
/// GRUB tells the program it comes from, whatever the file's name says. GRUB 2.12 has no `exit` that fails, and UEFI
/// goes into its menu behind a program that succeeded; seen with OVMF.
fn start_disk(text: &mut String, architecture: Option<Architecture>) {
    let letters = match architecture {
        Some(Architecture::Arm64Uefi) => "aa64",
        Some(Architecture::Ia32Uefi) => "ia32",
        _ => "x64",
    };
    let file = |name: &&str| {
        let is_fallback = name.starts_with("BOOT/");
        let letters = if is_fallback { letters.to_uppercase() } else { letters.to_owned() };
        quoted(&format!("/EFI/{}", name.replace('@', &letters)))
    };
    let files: Vec<String> = ON_DISK.iter().map(file).collect();
    line(
        text,
        format_args!(
            "for remoteboot_file in {}; do\n  \
               if search --no-floppy --set=root --file \"$remoteboot_file\"; then\n    \
                 if chainloader \"$remoteboot_file\"; then\n      \
                   boot\n    \
                 fi\n  \
               fi\n\
             done\n",
            files.join(" ")
        ),
    );
}

/// Loads a configuration again and again. The one that is loaded sets what is asked
/// for next, and leaves the loop to the first: a loop in a loop for each question
/// would take all memory in time. `true` makes no failure the last word.
fn ask_again(text: &mut String, (name, wait): (&str, u32)) {
    line(
        text,
        format_args!(
            "set remoteboot_next={name}\n\
             set remoteboot_wait={wait}\n\
             if [ \"$remoteboot_asks\" != yes ]; then\n  \
               set remoteboot_asks=yes\n  \
               while true; do\n    \
                 sleep $remoteboot_wait\n    \
                 source \"$prefix/$remoteboot_next\"\n    \
                 true\n  \
               done\n\
             fi\n"
        ),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        boot::Prelude,
        model::{
            Asset, BootMode, Change, Image, Instance, Source,
            testing::{self, file as image_file},
        },
    };

    const NOW: Timestamp = Timestamp(1000);
    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);

    fn policy() -> Policy {
        Policy {
            rules: crate::boot::Rules::default(),
            paths: crate::boot::Paths::default(),
            authority: "10.0.0.1:8080".to_owned(),
            server: [10, 0, 0, 1].into(),
        }
    }

    fn asker(mac: Option<Mac>, is_again: bool) -> Asker {
        Asker { mac, address: [10, 0, 0, 9].into(), prelude: Prelude::None, is_again }
    }

    fn state_with(image: Option<Image>, boot: BootMode) -> State {
        let mut state = State::new(None);
        let image = image.map(Into::into);
        state.apply(&Change::Machine(testing::held(MAC, Timestamp(1))));
        state.apply(&Change::Instance(Instance { image, boot, ..testing::instance(1, MAC) }));
        state
    }

    fn config_of(image: Image) -> Script {
        let state = state_with(Some(image), BootMode::Always);
        config_for(&state, &policy(), asker(Some(MAC), false), NOW)
    }

    fn image(cmdline: &str) -> Image {
        Image {
            kernel: image_file("a/vm linuz"),
            initrds: vec![image_file("b/one"), image_file("b/two")],
            cmdline: cmdline.to_owned(),
        }
    }

    fn stage(script: &Script) -> Option<Stage> {
        script.sighting.as_ref().map(|sighting| sighting.stage)
    }

    /// The words of a line as GRUB's shell reads it, for the part of its grammar that
    /// a word of ours can have: single quotes and a backslash outside of them.
    /// Nothing, if anything else is in it that means something to GRUB.
    fn words(line: &str) -> Option<Vec<String>> {
        let (mut words, mut word) = (Vec::new(), None::<String>);
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                ' ' => words.extend(word.take()),
                '\'' => loop {
                    let inner = characters.next()?;
                    let word = word.get_or_insert_default();
                    if inner == '\'' {
                        break;
                    }
                    word.push(inner);
                },
                '\\' => word.get_or_insert_default().push(characters.next()?),
                c if c.is_ascii_alphanumeric() || "._-".contains(c) => {
                    word.get_or_insert_default().push(c);
                }
                _ => return None,
            }
        }
        words.extend(word);
        Some(words)
    }

    /// The command line that GRUB makes of its arguments.
    fn handed_on(arguments: &[String]) -> String {
        let one = |argument: &String| {
            let escaped = argument.chars().fold(String::new(), |mut text, c| {
                if "\\'\"".contains(c) {
                    text.push('\\');
                }
                text.push(c);
                text
            });
            if argument.contains(' ') { format!("\"{escaped}\"") } else { escaped }
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// A command line as Linux takes it apart: blanks outside of double quotes end a
    /// parameter, quotes around the whole or around its value are taken off.
    fn parameters(cmdline: &str) -> Vec<(String, Option<String>)> {
        let (mut pieces, mut piece, mut is_quoted) = (Vec::new(), String::new(), false);
        for character in cmdline.chars() {
            match character {
                ' ' if !is_quoted => pieces.push(std::mem::take(&mut piece)),
                character => {
                    is_quoted ^= character == '"';
                    piece.push(character);
                }
            }
        }
        pieces.push(piece);
        let bare = |text: &str| text.trim_matches('"').to_owned();
        let parameter = |piece: String| {
            let piece = if piece.starts_with('"') { bare(&piece) } else { piece };
            match piece.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(bare(value))),
                None => (piece, None),
            }
        };
        // An empty pair of quotes is no parameter of any kernel.
        let is_some = |piece: &String| !bare(piece).is_empty();
        pieces.into_iter().filter(is_some).map(parameter).collect()
    }

    #[test]
    fn an_instance_s_kernel_initrds_and_command_line_are_loaded_from_its_own_urls() {
        let script = config_of(image("quiet mac={{ mac }} note=\"two words\""));
        assert_eq!(stage(&script), Some(Stage::Script));
        let token = testing::instance(1, MAC).secrets.files.digits();
        let url = |rest: &str| format!("'(http,10.0.0.1:8080)/boot/{token}/{rest}'");
        let linux = format!(
            "if linux {} 'quiet' 'mac=52:54:00:aa:01:01' 'note=two words'; then\n",
            url("0/vm%20linuz")
        );
        assert!(script.text.contains(&linux), "{}", script.text);
        let initrd = format!("if initrd {} {}; then\nboot\n", url("1/one"), url("2/two"));
        assert!(script.text.contains(&initrd), "{}", script.text);
        assert!(script.text.contains("set remoteboot_next=grub.cfg-01-52-54-00-aa-01-01-again\n"));
    }

    #[test]
    fn a_machine_waits_leaves_or_is_asked_who_it_is() {
        let policy = policy();
        let held = config_for(&State::new(None), &policy, asker(Some(MAC), false), NOW);
        assert_eq!(stage(&held), Some(Stage::Holding));
        assert!(held.text.contains("set remoteboot_next=grub.cfg-01-52-54-00-aa-01-01\n"));
        assert!(held.text.contains("set remoteboot_wait=5\n"));

        let local = state_with(None, BootMode::Never);
        let local = config_for(&local, &policy, asker(Some(MAC), false), NOW);
        assert_eq!(stage(&local), Some(Stage::Local));
        assert!(local.text.ends_with("\nexit 1\n"), "{}", local.text);
        for file in ["'/EFI/debian/shimx64.efi'", "'/EFI/BOOT/BOOTX64.EFI'; do"] {
            assert!(local.text.contains(file), "{}", local.text);
        }

        let unknown = config_for(&State::new(None), &policy, asker(None, false), NOW);
        assert_eq!(unknown.sighting, None);
        assert!(unknown.text.contains("source \"$prefix/grub.cfg-01-$net_default_mac\"\n"));
    }

    #[test]
    fn a_boot_that_is_asked_for_again_is_not_counted_again() {
        let mut state = state_with(Some(image("quiet")), BootMode::Once);
        for is_again in [false, true, true] {
            let script = config_for(&state, &policy(), asker(Some(MAC), is_again), NOW);
            assert!(script.text.contains("if linux "));
            assert_eq!(stage(&script), (!is_again).then_some(Stage::Script));
            let changes = script.sighting.map(|sighting| super::super::seen(&state, sighting, NOW));
            changes.unwrap_or_default().iter().for_each(|change| state.apply(change));
        }
    }

    #[test]
    fn what_grub_cannot_load_or_hand_on_is_said_and_asked_for_again() {
        let mut elsewhere = image("quiet");
        elsewhere.kernel = Asset { source: Source::Url("https://x/k".to_owned()), checksum: None };
        let mut strange = image("quiet");
        strange.kernel = Asset { source: Source::Url("http://x),y/k".to_owned()), checksum: None };
        for (image, why) in [
            (elsewhere, "it knows `http://` and nothing else"),
            (strange, "it knows `http://` and nothing else"),
            (image(r"a=\x"), "a backslash or a single quote"),
            (image("a='x y'"), "a backslash or a single quote"),
            (image("a=b\"c d\""), "double quotes in the middle of a word"),
            (image("a=\"b c\"d"), "double quotes in the middle of a word"),
            (image("a=\"b c"), "double quotes that are not closed"),
        ] {
            let script = config_of(image);
            assert_eq!(stage(&script), Some(Stage::Holding));
            assert!(script.text.contains(&why.replace('\'', "'\\''")), "{why}: {}", script.text);
            assert!(!script.text.contains("linux '"), "{}", script.text);
        }
    }

    #[test]
    fn a_url_elsewhere_is_a_file_on_its_server() {
        for (url, expected) in [
            ("http://boot.example/a/k?v=1", "(http,boot.example)/a/k?v=1"),
            ("http://[fd00::1]:81/k", "(http,[fd00::1]:81)/k"),
        ] {
            assert_eq!(file(url).expect(url), expected);
        }
    }

    #[test]
    fn the_names_that_grub_tries_are_known_and_no_other() {
        let none = Some(ConfigName { claim: Claim::None, is_again: false });
        let of_mac = |is_again| Some(ConfigName { claim: Claim::Mac(MAC), is_again });
        for (name, expected) in [
            ("grub.cfg", none),
            ("grub.cfg-01-52-54-00-aa-01-01", of_mac(false)),
            ("grub.cfg-01-52:54:00:aa:01:01", of_mac(false)),
            ("grub.cfg-01-52-54-00-aa-01-01-again", of_mac(true)),
            ("grub.cfg-0A4D0064", none),
            ("grub.cfg-0", none),
            ("grub.cfg-c0ffee00-0000-4000-8000-525400aa0101", none),
            ("grub.cfg-", None),
            ("grub.cfg-x", None),
            ("grub.cfgs", None),
            ("mygrub.cfg", None),
            ("grub.cfg-00000000-0000-0000-0000-0000000000000", None),
        ] {
            assert_eq!(config_name(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_its_word(text in "[ -~'\"$\\\\;&|\n\t{}`äß]{0,60}") {
            let plain = text.replace(char::is_control, "?");
            let line = format!("echo {} end", quoted(&text));
            prop_assert_eq!(words(&line), Some(vec!["echo".to_owned(), plain, "end".to_owned()]));
        }

        #[test]
        fn a_command_line_is_handed_on_as_the_kernel_reads_it_or_not_at_all(
            cmdline in "([a-z$;&|{}#]{0,4}(=\"?[a-z =$;]{0,6}\"?)?[ \"'\\\\]?){0,6}",
        ) {
            if let Ok(arguments) = arguments(&cmdline) {
                prop_assert_eq!(parameters(&handed_on(&arguments)), parameters(&cmdline));
            }
        }

        #[test]
        fn no_command_line_adds_a_command(cmdline in "[ -~]{0,80}") {
            let script = config_of(image(&cmdline.replace(['{', '}'], "$")));
            let usual = config_of(image("quiet"));
            let is_refused = !script.text.contains("if linux ");
            let commands = |text: &str| -> Vec<String> {
                let first = |line: &str| line.trim().split(' ').next().unwrap_or_default().to_owned();
                text.lines().map(first).collect()
            };
            prop_assert!(is_refused || commands(&script.text) == commands(&usual.text));
            for line in script.text.lines().filter(|line| line.starts_with("if linux ")) {
                let command = line.strip_prefix("if ").and_then(|rest| rest.strip_suffix("; then"));
                prop_assert!(command.is_some_and(|command| words(command).is_some()), "{}", line);
            }
        }
    }
}
