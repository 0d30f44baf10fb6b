//! Properties as an operator writes them, to an image and what else a machine
//! is given. Strict: a field that is not known is an error, and every error
//! names the field and what it says.
//!
//! Pure: whether the files are there is looked up elsewhere.

use std::{fmt, net::Ipv4Addr};

use serde_json::{Map, Value};

use super::{
    addition::{self, Addition, InvalidAddition},
    url,
};
use crate::model::{
    Architecture, Asset, BootMode, Checksum, Hostname, Image, ImageFile, InvalidChecksum,
    InvalidHostname, InvalidImageFile, InvalidMac, InvalidMacPrefix, Mac, Select, Source,
};

mod select;

/// The fields that there are, the required one first.
pub(super) const FIELDS: [&str; 11] = [
    "Kernel", "Initrd", "CmdLine", "Boot", "Select", "MAC", "Address", "Hostname", "Checksum",
    "Index", "Each",
];

/// So many initrds no kernel's command line has room to name.
const MOST_INITRDS: usize = 64;

/// What an instance shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Properties {
    /// When it boots from the network.
    pub(super) boot: BootMode,
    /// What it boots, always there unless it never does; the command line is not
    /// checked yet.
    pub(super) image: Option<Image>,
    /// What its machine must be.
    pub(super) select: Option<Select>,
    /// The machine that it must be.
    pub(super) mac: Option<Mac>,
    /// The address that is kept for it.
    pub(super) address: Option<Ipv4Addr>,
    /// The name that it is given.
    pub(super) hostname: Option<Naming>,
    /// Its place in its group; else the lowest that is free.
    pub(super) index: Option<u32>,
    /// What is added to it, by its place; nothing for anybody if empty.
    pub(super) each: Vec<Addition>,
}

/// How an instance is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Naming {
    /// So.
    Fixed(Hostname),
    /// As this template comes out for it; not checked yet.
    Template(String),
}

/// Properties that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub(super) struct InvalidProperties {
    field: Field,
    problem: Problem,
}

/// Where in the Properties, as `Properties.Checksum["vmlinuz"]`.
#[derive(Debug, PartialEq, Eq)]
enum Field {
    All,
    Named(String),
    Checksum(String),
    Select(String),
    /// In an entry of `Each`, as `.Each[2].CmdLine`.
    Each(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Problem {
    #[error("required: an object with at least `Kernel`, the file or URL of a kernel")]
    NoProperties,
    #[error("`{0}` is no mode; there are always, once and never")]
    Boot(String),
    #[error("{0} are given; {MOST_INITRDS} are the most")]
    TooMany(usize),
    #[error("there is no Kernel that it could be for")]
    WithoutKernel,
    #[error("Properties.MAC names the machine already; leave one of the two out")]
    Ambiguous,
    #[error("it says nothing; leave it out, or give Arch, Labels or MAC")]
    EmptySelect,
    #[error("there is no such condition; known are Arch, Labels, MAC and Slot")]
    UnknownCondition,
    #[error("there is no architecture `{0}`; known are {known}", known = architectures())]
    Architecture(String),
    #[error(transparent)]
    MacPrefix(InvalidMacPrefix),
    #[error("required: the file or URL of a kernel")]
    NoKernel,
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: String },
    #[error("there is no such field{}; known are {}", did_you_mean(.0, &FIELDS), FIELDS.join(", "))]
    Unknown(String),
    #[error(transparent)]
    File(InvalidImageFile),
    #[error(transparent)]
    Url(url::InvalidUrl),
    #[error(transparent)]
    Mac(InvalidMac),
    #[error("`{0}` is not an IPv4 address")]
    Address(String),
    #[error(transparent)]
    Hostname(InvalidHostname),
    #[error(transparent)]
    Checksum(InvalidChecksum),
    #[error("no file of Kernel or Initrd is called so; they are {0}")]
    NotAFile(String),
    #[error(transparent)]
    Each(addition::Problem),
    #[error("`{0}` is not a place in a group; they are whole numbers from 0")]
    Index(String),
    #[error("the machine fetches this URL itself, so its checksum would not be checked")]
    ChecksumOfUrl,
}

impl Properties {
    /// Reads them.
    pub(super) fn read(properties: &Value) -> Result<Self, InvalidProperties> {
        let fields = match properties {
            Value::Null => return Err(Field::All.is(Problem::NoProperties)),
            Value::Object(fields) => fields,
            other => return Err(Field::All.is(wrong("an object", other))),
        };
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(Field::Named(name.clone()).is(Problem::Unknown(name.clone())));
        }
        let boot = parsed(fields, "Boot", |text| {
            let mode = BootMode::ALL.into_iter().find(|mode| mode.name() == text);
            mode.ok_or_else(|| Problem::Boot(text.to_owned()))
        })?
        .unwrap_or_default();
        let mac = parsed(fields, "MAC", |text| text.parse().map_err(Problem::Mac))?;
        let select = select::read(fields)?;
        if mac.is_some() && select.is_some() {
            return Err(Field::named("Select").is(Problem::Ambiguous));
        }
        Ok(Self {
            boot,
            index: index(fields)?,
            each: each(fields)?,
            image: image(fields, boot)?,
            select,
            mac,
            address: parsed(fields, "Address", |text| {
                text.parse().map_err(|_| Problem::Address(text.to_owned()))
            })?,
            hostname: parsed(fields, "Hostname", |text| match text.contains("{{") {
                true => Ok(Naming::Template(text.to_owned())),
                false => text.parse().map(Naming::Fixed).map_err(Problem::Hostname),
            })?,
        })
    }
}

fn index(fields: &Map<String, Value>) -> Result<Option<u32>, InvalidProperties> {
    match fields.get("Index") {
        None | Some(Value::Null) => Ok(None),
        Some(given) => {
            let index = given.as_u64().and_then(|index| u32::try_from(index).ok());
            let problem = || Field::named("Index").is(Problem::Index(given.to_string()));
            index.map(Some).ok_or_else(problem)
        }
    }
}

fn each(fields: &Map<String, Value>) -> Result<Vec<Addition>, InvalidProperties> {
    let each = addition::each(fields)?;
    let is_bootless = fields.get("Kernel").is_none_or(Value::is_null);
    match each.iter().position(|entry| is_bootless && !entry.cmdline.is_empty()) {
        Some(index) => {
            Err(Field::Each(format!(".Each[{index}].CmdLine")).is(Problem::WithoutKernel))
        }
        None => Ok(each),
    }
}

impl From<InvalidAddition> for InvalidProperties {
    fn from(InvalidAddition { path, problem }: InvalidAddition) -> Self {
        Field::Each(path).is(Problem::Each(problem))
    }
}

/// What is booted; nothing if there is no kernel and none is needed.
fn image(fields: &Map<String, Value>, boot: BootMode) -> Result<Option<Image>, InvalidProperties> {
    let Some(kernel) = text(fields, "Kernel")? else {
        if boot != BootMode::Never {
            return Err(Field::named("Kernel").is(Problem::NoKernel));
        }
        let given = |name: &&str| fields.get(*name).is_some_and(|value| !value.is_null());
        return match ["Initrd", "CmdLine", "Checksum"].iter().find(|name| given(name)) {
            Some(name) => Err(Field::named(name).is(Problem::WithoutKernel)),
            None => Ok(None),
        };
    };
    let initrds = initrds(fields)?;
    let mut written = vec![(kernel, source("Kernel", kernel)?)];
    for initrd in initrds {
        written.push((initrd, source("Initrd", initrd)?));
    }
    let mut assets = checked(fields, written)?.into_iter();
    Ok(Some(Image {
        kernel: assets.next().expect("the kernel was put in first"),
        initrds: assets.collect(),
        cmdline: text(fields, "CmdLine")?.unwrap_or_default().to_owned(),
    }))
}

/// A string or a list of strings.
fn initrds(fields: &Map<String, Value>) -> Result<Vec<&str>, InvalidProperties> {
    let name = "Initrd";
    match fields.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(several)) if several.len() > MOST_INITRDS => {
            Err(Field::named(name).is(Problem::TooMany(several.len())))
        }
        Some(Value::Array(several)) => several
            .iter()
            .map(|one| {
                one.as_str().ok_or_else(|| Field::named(name).is(wrong("a list of strings", one)))
            })
            .collect(),
        Some(other) => Err(Field::named(name).is(wrong("a string or a list of strings", other))),
    }
}

/// The files as assets, each with its checksum if there is one under the name
/// that it was written with.
fn checked(
    fields: &Map<String, Value>,
    written: Vec<(&str, Source)>,
) -> Result<Vec<Asset>, InvalidProperties> {
    let nothing = Map::new();
    let checksums = match fields.get("Checksum") {
        None | Some(Value::Null) => &nothing,
        Some(Value::Object(checksums)) => checksums,
        Some(other) => {
            let expected = "an object of file names and SHA-256 digests";
            return Err(Field::named("Checksum").is(wrong(expected, other)));
        }
    };
    let mut assets: Vec<Asset> = written
        .iter()
        .map(|(_, source)| Asset { source: source.clone(), checksum: None })
        .collect();
    for (name, checksum) in checksums {
        let at = || Field::Checksum(name.clone());
        let Some(text) = checksum.as_str() else {
            return Err(at().is(wrong("a string of 64 hexadecimal digits", checksum)));
        };
        let digest: Checksum = text.parse().map_err(|error| at().is(Problem::Checksum(error)))?;
        let mut is_named = false;
        for (asset, (_, source)) in
            assets.iter_mut().zip(&written).filter(|(_, (written, _))| written == name)
        {
            if matches!(source, Source::Url(_)) {
                return Err(at().is(Problem::ChecksumOfUrl));
            }
            asset.checksum = Some(digest);
            is_named = true;
        }
        if !is_named {
            let names: Vec<String> = written.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(at().is(Problem::NotAFile(names.join(", "))));
        }
    }
    Ok(assets)
}

fn source(field: &str, text: &str) -> Result<Source, InvalidProperties> {
    if text.contains("://") {
        let checked = url::check(text);
        return checked
            .map(|()| Source::Url(text.to_owned()))
            .map_err(|error| Field::named(field).is(Problem::Url(error)));
    }
    text.parse::<ImageFile>()
        .map(Source::File)
        .map_err(|error| Field::named(field).is(Problem::File(error)))
}

fn parsed<Parsed>(
    fields: &Map<String, Value>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<Parsed, Problem>,
) -> Result<Option<Parsed>, InvalidProperties> {
    let parse = |text| parse(text).map_err(|problem| Field::named(name).is(problem));
    text(fields, name)?.map(parse).transpose()
}

/// Null is the same as nothing: templates write it for what they have not.
fn text<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, InvalidProperties> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Field::named(name).is(wrong("a string", other))),
    }
}

fn wrong(expected: &'static str, found: &Value) -> Problem {
    Problem::WrongType { expected, found: found.to_string() }
}

fn architectures() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

/// A hint for a name that is known in other case only.
pub(super) fn did_you_mean(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name))
        .map(|known| format!(", did you mean `{known}`?"))
        .unwrap_or_default()
}

impl Field {
    fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }

    const fn is(self, problem: Problem) -> InvalidProperties {
        InvalidProperties { field: self, problem }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("Properties"),
            Self::Named(name) => write!(formatter, "Properties.{}", name.escape_debug()),
            Self::Select(path) => write!(formatter, "Properties.Select{}", path.escape_debug()),
            Self::Each(path) => write!(formatter, "Properties{path}"),
            Self::Checksum(name) => write!(formatter, "Properties.Checksum[{name:?}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<Properties, String> {
        Properties::read(json).map_err(|error| error.to_string())
    }

    fn refused(json: Value, words: &[&str]) {
        let error = read(&json).expect_err(&json.to_string());
        for word in words {
            assert!(error.contains(word), "`{error}` does not say `{word}`");
        }
    }

    #[test]
    fn everything_that_can_be_said_is_understood() {
        let digest = "ab".repeat(32);
        let properties = read(&json!({
            "Kernel": "images/vmlinuz",
            "Initrd": ["./images/initrd", "https://files.example/more.img"],
            "CmdLine": "console=ttyS0",
            "MAC": "52-54-00-AA-01-01",
            "Address": "10.0.0.40",
            "Hostname": "Web-1",
            "Checksum": {"./images/initrd": format!("sha256:{digest}")},
            "Index": 4,
            "Each": [{"CmdLine": "a=1"}],
        }))
        .expect("all of it");
        assert_eq!(properties.mac, Some(Mac::new([0x52, 0x54, 0, 0xaa, 1, 1])));
        assert_eq!(properties.address, Some([10, 0, 0, 40].into()));
        let name = "web-1".parse().expect("a name");
        assert_eq!(properties.hostname, Some(Naming::Fixed(name)));
        assert_eq!((properties.index, properties.each.len()), (Some(4), 1));
        let assets: Vec<_> = properties
            .image
            .expect("a kernel")
            .assets()
            .map(|asset| (asset.source.to_string(), asset.checksum.map(|sum| sum.to_string())))
            .collect();
        let expected = [
            ("images/vmlinuz".to_owned(), None),
            ("images/initrd".to_owned(), Some(digest)),
            ("https://files.example/more.img".to_owned(), None),
        ];
        assert_eq!(assets, expected);
    }

    #[test]
    fn a_kernel_alone_is_enough() {
        let bare = read(&json!({"Kernel": "vmlinuz"})).expect("enough");
        let nulls = json!({
            "Kernel": "vmlinuz", "Initrd": null, "CmdLine": null, "MAC": null, "Address": null,
            "Hostname": null, "Checksum": null, "Boot": null, "Select": null, "Index": null,
            "Each": null,
        });
        assert_eq!(read(&nulls), Ok(bare.clone()));
        let image = bare.image.expect("a kernel");
        assert_eq!((image.initrds.len(), image.cmdline.as_str()), (0, ""));
        assert_eq!((bare.boot, bare.select), (BootMode::Always, None));
    }

    #[test]
    fn a_machine_that_never_boots_from_here_needs_no_kernel() {
        let never = read(&json!({"Boot": "never"})).expect("enough");
        assert_eq!((never.boot, never.image), (BootMode::Never, None));
        assert!(read(&json!({"Boot": "never", "Kernel": "k"})).expect("may be").image.is_some());
        refused(
            json!({"Boot": "never", "CmdLine": "quiet"}),
            &["Properties.CmdLine:", "no Kernel"],
        );
        let each = json!([{}, {"CmdLine": "quiet"}]);
        refused(
            json!({"Boot": "never", "Each": each}),
            &["Properties.Each[1].CmdLine:", "no Kernel"],
        );
        refused(json!({"Boot": "once"}), &["Properties.Kernel:", "required"]);
        refused(json!({"Kernel": "k", "Boot": "Once"}), &["Properties.Boot:", "`Once`", "always"]);
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let list = |count: usize| json!({"Kernel": "k", "Initrd": vec!["i"; count]});
        assert!(read(&list(MOST_INITRDS)).is_ok());
        refused(list(MOST_INITRDS + 1), &["Properties.Initrd: 65 are given; 64 are the most"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        refused(json!(null), &["Properties:", "required", "Kernel"]);
        refused(json!({}), &["Properties.Kernel:", "required"]);
        refused(json!(["x"]), &["Properties:", "an object", "[\"x\"]"]);
    }

    #[test]
    fn a_field_that_there_is_not_is_named_with_those_that_there_are() {
        refused(json!({"Kernel": "k", "pool": "rack1"}), &["Properties.pool:", "Kernel, Initrd"]);
        refused(json!({"kernel": "k"}), &["Properties.kernel:", "did you mean `Kernel`?"]);
        refused(json!({"Kernel": "k", "Mac": "x"}), &["did you mean `MAC`?"]);
    }

    #[test]
    fn every_error_names_the_field_and_the_value() {
        for (field, value) in [
            ("Kernel", json!("/etc/passwd")),
            ("Kernel", json!("../x")),
            ("Kernel", json!("")),
            ("Kernel", json!(5)),
            ("Kernel", json!("ftp://x/y")),
            ("Initrd", json!("a//b")),
            ("Initrd", json!(["a", 7])),
            ("Initrd", json!({"a": 1})),
            ("CmdLine", json!(["a"])),
            ("MAC", json!("52:54:00")),
            ("MAC", json!("ff:ff:ff:ff:ff:ff")),
            ("Address", json!("10.0.0.256")),
            ("Address", json!("10.0.0.0/24")),
            ("Hostname", json!("a_b")),
            ("Checksum", json!("ab")),
            ("Index", json!(-1)),
            ("Index", json!(1.5)),
            ("Index", json!("1")),
            ("Index", json!(4_294_967_296_u64)),
            ("Each", json!({"a": 1})),
        ] {
            let mut properties = json!({"Kernel": "vmlinuz"});
            properties[field] = value.clone();
            let named = format!("Properties.{field}: ");
            let shown = match &value {
                Value::String(text) => text.clone(),
                Value::Array(several) => several.last().map(Value::to_string).unwrap_or_default(),
                other => other.to_string(),
            };
            refused(properties, &[&named, &shown]);
        }
    }

    #[test]
    fn a_checksum_is_of_a_file_that_is_named_and_no_url() {
        let digest = "ab".repeat(32);
        let with = |kernel: &str, checksum: Value| json!({"Kernel": kernel, "Checksum": checksum});
        refused(with("k", json!({"j": digest})), &["Properties.Checksum[\"j\"]:", "`k`"]);
        refused(with("k", json!({"k": "abc"})), &["Properties.Checksum[\"k\"]:", "`abc`"]);
        refused(with("k", json!({"k": null})), &["Properties.Checksum[\"k\"]:", "null"]);
        let url = "http://files.example/k";
        refused(
            with(url, json!({url: digest})),
            &["Properties.Checksum", "fetches this URL itself"],
        );
    }

    #[test]
    fn the_schema_has_exactly_these_fields_and_its_examples_are_read() {
        let schema: Value =
            serde_json::from_str(include_str!("../../plugin-spec/properties.schema.json"))
                .expect("JSON");
        let mut fields: Vec<&String> =
            schema["properties"].as_object().expect("an object").keys().collect();
        let mut known = FIELDS.to_vec();
        fields.sort();
        known.sort_unstable();
        assert_eq!(fields, known);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!([]));
        let whole: Value =
            serde_json::from_str(include_str!("../../plugin-spec/properties.json")).expect("JSON");
        // All but MAC, which excludes Select.
        let given = whole.as_object().expect("an object");
        assert!(FIELDS.iter().all(|field| given.contains_key(*field) != (*field == "MAC")));
        for example in schema["examples"].as_array().expect("a list").iter().chain([&whole]) {
            read(example).expect("an example");
        }
        // Each field alone is taken, as the schema says.
        for (field, value) in whole.as_object().expect("an object") {
            let mut alone = json!({"Kernel": whole["Kernel"]});
            alone[field] = value.clone();
            read(&alone).expect(field);
        }
    }

    proptest! {
        #[test]
        fn no_text_in_any_field_panics(field in proptest::sample::select(&FIELDS[..]), text: String) {
            let mut properties = json!({"Kernel": "k"});
            properties[field] = json!(text);
            let _ = Properties::read(&properties);
            let _ = Properties::read(&json!({"Kernel": "k", "Checksum": {text: "x"}}));
        }
    }
}
