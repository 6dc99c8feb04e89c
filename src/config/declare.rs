//! `configuration!`: the macro with which each key is declared once.
//!
//! A key stands in `keys.rs` as
//!
//! ```text
//! /// What it means, in Markdown.
//! name was "an_old_name": Type = "default", kind(bounds), reloadable;
//! ```
//!
//! Old names, the default and `reloadable` may be left out. A key without a default has an optional
//! type; in a table that may occur several times, it may also be a required key. The declarations
//! generate the structs, the code that reads, shows and compares them, the documents, and the texts
//! of errors.

/// Why the keys of a section do not run out before its fields.
pub(super) const EACH_FIELD: &str = "the macro makes one key of each field";

/// Why every section can be made.
pub(super) const EACH_KEY: &str = "every key of a section has a default or is optional";

/// Declares the whole configuration: `sections { … }`, each of which the file has at most once, and
/// `tables { … }`, each of which the file may have any number of times.
macro_rules! configuration {
    (
        sections { $( $(#[doc = $about:literal])+ $section:ident: $Section:ident { $($keys:tt)+ } )+ }
        tables { $(
            $(#[doc = $table_about:literal])+
            $table:ident: $Table:ident $(, $when:ident)? { $($table_keys:tt)+ }
        )+ }
    ) => {
        /// All settings of amqpost. [`Config::load`] makes only valid ones.
        ///
        /// It serialises with secrets redacted, durations and sizes in the textual form of the
        /// file.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Config {
            $( $(#[doc = $about])+ pub $section: $Section, )+
            $(
                $(#[doc = $table_about])+
                #[serde(skip_serializing_if = "Vec::is_empty")]
                pub $table: Vec<$Table>,
            )+
        }

        /// All sections, in the order of the documents.
        pub(super) const SECTIONS: &[Section] = &[$($Section::SECTION),+];

        /// The tables of which there may be several.
        pub(super) const TABLES: &[Section] = &[$($Table::SECTION),+];

        impl Config {
            /// Reads everything that was given.
            pub(super) fn read(layers: &Layers, problems: &mut Problems) -> (Self, Found) {
                let mut reader = Reader::new(&layers.given, problems);
                $( let $section = $Section::read(&mut reader).expect(EACH_KEY); )+
                let mut found = Found::after(reader);
                $( let $table = found.tables(layers, problems); )+
                (Self { $($section,)+ $($table),+ }, found)
            }

            /// The keys and tables whose values differ: paths, and whether they are reloadable.
            pub(super) fn differing(&self, other: &Self) -> Vec<(&'static str, bool)> {
                let mut keys = Vec::new();
                $(
                    let differing = self.$section.differing(&other.$section);
                    keys.extend(differing.iter().map(|key| (key.path, key.reloadable)));
                )+
                $(
                    if self.$table != other.$table {
                        keys.push((stringify!($table), configuration!(@reloadable $($when)?)));
                    }
                )+
                keys
            }

            /// Takes over the values of all keys and tables that are reloadable.
            pub(super) fn adopt(&mut self, new: &Self) {
                $( self.$section.adopt(&new.$section); )+
                $( configuration!(@adopt self new $table $($when)?); )+
            }
        }

        $( configuration! { @struct $section $Section [] [$($about)+] { $($keys)+ } } )+
        $( configuration! { @struct $table $Table [$($when)?] [$($table_about)+] { $($table_keys)+ } } )+
    };
    (@struct $section:ident $Section:ident [$($all:ident)?] [$($about:literal)+] { $(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:literal)? $(was $old:literal)*:
            $type:ty $(= $default:literal)?, $kind:expr $(, $when:ident)?;
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Section { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl Declared for $Section {
            const SECTION: Section = Section {
                name: stringify!($section),
                reloadable: configuration!(@reloadable $($all)?),
                keys: &[$( Key {
                    path: concat!(stringify!($section), ".", configuration!(@name $field $($name)?)),
                    old: &[$( concat!(stringify!($section), ".", $old) ),*],
                    default: configuration!(@default $($default)?),
                    kind: $kind,
                    reloadable: configuration!(@reloadable $($when)?),
                    doc: concat!($($doc),+),
                } ),+],
                doc: concat!($($about),+),
            };

            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                let mut keys = Self::SECTION.keys.iter();
                $( let $field = reader.value(keys.next().expect(EACH_FIELD)); )+
                Some(Self { $($field: $field?),+ })
            }

            fn differing(&self, other: &Self) -> Vec<&'static Key> {
                let differ = [$( self.$field != other.$field ),+];
                let keys = Self::SECTION.keys.iter().zip(differ);
                keys.filter_map(|(key, differs)| differs.then_some(key)).collect()
            }

            #[allow(unused_variables, reason = "a section may have no key that is reloadable")]
            fn adopt(&mut self, new: &Self) {
                $( configuration!(@adopt self new $field $($when)?); )+
            }
        }

        impl Serialize for $Section {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut keys = Self::SECTION.keys.iter();
                let mut shown = serializer.serialize_struct(stringify!($section), keys.len())?;
                $(
                    let key = keys.next().expect(EACH_FIELD);
                    if key.kind.is_secret() {
                        shown.skip_field(key.name())?;
                    } else {
                        shown.serialize_field(key.name(), &Shown(&self.$field, &key.kind))?;
                    }
                )+
                shown.end()
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@reloadable) => { false };
    (@reloadable reloadable) => { true };
    (@adopt $self:ident $new:ident $field:ident) => {};
    (@adopt $self:ident $new:ident $field:ident reloadable) => { $self.$field.clone_from(&$new.$field) };
}
pub(super) use configuration;
