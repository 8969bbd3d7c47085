//! Shapes: what a field of a manifest may hold, declared once as tables. The check of manifests, their
//! defaults and the JSON Schema for editors are all read from the same tables.

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    /// An object with these fields and no others.
    Object(&'static Object),
    /// An object with some of these fields, laid over another one: nothing is required.
    Overrides(&'static Object),
    /// An object whose keys the manifest chooses.
    Table {
        /// What a key may be.
        key: Grammar,
        /// What each value may be.
        value: &'static Self,
    },
    /// A list.
    List(&'static Self),
    /// A list that is not empty.
    Some(&'static Self),
    /// Text of a grammar.
    Text(Grammar),
    /// One of these words.
    Word(&'static [Word]),
    /// A whole number in these bounds.
    Count {
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A span of time in these bounds.
    Span {
        /// The least, in milliseconds.
        least_ms: u64,
        /// The most, in milliseconds.
        most_ms: u64,
    },
    /// A number of targets, or a share of them in percent.
    Extent,
    /// A share in percent.
    Percent,
    /// How far a wave reaches.
    Wave,
    /// True or false.
    Flag,
    /// Anything: checked by somebody who knows more.
    Any,
    /// An object that is checked by somebody who knows more.
    AnyObject,
    /// Text, a number, true or false.
    Scalar,
    /// Any number.
    Real,
    /// A CEL expression over these names.
    Expression(&'static [&'static str]),
    /// When something may happen.
    Window(&'static Object),
    /// The use of a protection: in a list, each under a name of its own.
    Use(&'static Object),
    /// Bounds of fields, by their paths.
    Limits,
    /// The first for text, the second for everything else.
    TextOr(Grammar, &'static Object),
    /// One of the words, or an object.
    WordOr(&'static [Word], &'static Object),
    /// True or false, or an object.
    FlagOr(&'static Object),
}

/// The fields of an object.
#[derive(Debug)]
pub(crate) struct Object {
    /// The fields.
    pub(crate) own: &'static [Field],
    /// More fields, those of another object.
    pub(crate) shared: Option<&'static Self>,
    /// Fields of which exactly one is there; empty where that is no matter.
    pub(crate) one_of: &'static [&'static str],
}

/// One field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) shape: Shape,
    /// Whether it has to be there.
    pub(crate) need: Need,
    /// What it means, for people.
    pub(crate) doc: &'static str,
}

/// Whether a field has to be there.
#[derive(Debug)]
pub(crate) enum Need {
    /// It has to.
    Required,
    /// It may be left out.
    Optional,
    /// It may be left out and then is this JSON.
    Default(&'static str),
    /// It is known and refused: why, as the end of a sentence. A guardrail that this version does not
    /// know how to keep is never passed over in silence.
    Refused(&'static str),
}

/// One word that a field may hold.
#[derive(Debug)]
pub(crate) struct Word {
    /// The word.
    pub(crate) word: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
}

/// What a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// `holdfast/v1`
    ApiVersion,
    /// Lower-case letters, digits and hyphens: the name of a service, an environment, an artifact.
    Name,
    /// A letter, then letters, digits and underscores, so that `vars.NAME` is an expression.
    Variable,
    /// The key of a target's label.
    LabelKey,
    /// The value of a target's label.
    LabelValue,
    /// One path component.
    FileName,
    /// A container image's repository: `[REGISTRY/]PATH`.
    Repository,
    /// `HOST[:PORT]`
    Host,
    /// The name of an adapter.
    Runtime,
    /// The version of a release.
    Version,
    /// A range of semantic versions.
    Range,
    /// `http://…` or `https://…`; it may hold `{{ }}`.
    Url,
    /// The address of a message: `https://…`, or `http://…`.
    Address,
    /// Any text of one line.
    Line,
    /// Any text; it may hold `{{ }}`.
    Template,
}

/// What is said of everything that a later version will know.
pub(crate) const LATER: Need = Need::Refused("is not supported by this version yet");

impl Field {
    pub(crate) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            need: Need::Required,
            doc,
        }
    }

    pub(crate) const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            need: Need::Optional,
            doc,
        }
    }

    pub(crate) const fn or(
        name: &'static str,
        default: &'static str,
        shape: Shape,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            shape,
            need: Need::Default(default),
            doc,
        }
    }

    pub(crate) const fn refused(name: &'static str, why: &'static str) -> Self {
        Self {
            name,
            shape: Shape::Any,
            need: Need::Refused(why),
            doc: "",
        }
    }

    pub(crate) const fn later(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            shape: Shape::Any,
            need: LATER,
            doc,
        }
    }

    /// The object that it holds, where it is one.
    pub(crate) fn object(&self) -> Option<&'static Object> {
        if let Shape::Object(object) = self.shape {
            return Some(object);
        }
        None
    }

    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self.need, Need::Refused(_))
    }
}

impl Object {
    /// An object with these fields.
    pub(crate) const fn of(own: &'static [Field]) -> Self {
        Self {
            own,
            shared: None,
            one_of: &[],
        }
    }

    /// The same, of whose fields `one_of` exactly one is there.
    pub(crate) const fn one_of(self, one_of: &'static [&'static str]) -> Self {
        Self { one_of, ..self }
    }

    /// The same, with the fields of another object as well.
    pub(crate) const fn with(self, shared: &'static Self) -> Self {
        Self {
            shared: Some(shared),
            ..self
        }
    }

    /// Its fields.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static Field> + Clone + use<> {
        let shared = self.shared.map_or(&[][..], |shared| shared.own);
        self.own.iter().chain(shared)
    }

    /// The field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields().find(|f| f.name == name)
    }

    /// The names of the fields that this version supports.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.fields().filter(|f| !f.is_refused()).map(|f| f.name)
    }
}
