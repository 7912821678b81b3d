//! The public functions of the crate, read from its sources.
//!
//! The lint `unreachable_pub` makes sure that whatever is `pub` can be reached from outside.

use std::collections::BTreeSet;
use std::path::Path;
use syn::punctuated::Punctuated;
use syn::{Attribute, ImplItem, Item, Meta, Token, TraitItem, Type, Visibility};

/// What can be called from outside.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    /// `function`, `Type::function`, `Trait::function`.
    pub(crate) functions: BTreeSet<String>,
    /// `Type as Trait`: the traits of the public types.
    pub(crate) traits: BTreeSet<String>,
    types: BTreeSet<String>,
    implemented: Vec<(String, String)>,
}

/// Reads `src/lib.rs` and what it is made of, as this build's features have it.
pub(crate) fn exports() -> Exports {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut exports = Exports::default();
    exports.read(&source.join("lib.rs"), &source);
    for (name, of_trait) in std::mem::take(&mut exports.implemented) {
        if exports.types.contains(&name) {
            exports.traits.insert(format!("{name} as {of_trait}"));
        }
    }
    exports
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The last name of a type's path, without its arguments.
fn name_of(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

/// Whether this build has what is under these attributes.
fn is_built(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .all(|attribute| holds(&attribute.parse_args::<Meta>().unwrap()))
}

fn holds(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) if path.is_ident("test") => false,
        Meta::Path(path) if path.is_ident("unix") => cfg!(unix),
        Meta::Path(path) if path.is_ident("windows") => cfg!(windows),
        Meta::NameValue(pair) => {
            let syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(value),
                ..
            }) = &pair.value
            else {
                panic!("a condition's value that is no text");
            };
            let value = value.value();
            if pair.path.is_ident("feature") {
                match value.as_str() {
                    "hooks" => cfg!(feature = "hooks"),
                    "mimalloc" => cfg!(feature = "mimalloc"),
                    "jemalloc" => cfg!(feature = "jemalloc"),
                    "c-abi" => cfg!(feature = "c-abi"),
                    other => panic!("tests/all/exports.rs does not know the feature '{other}' yet"),
                }
            } else if pair.path.is_ident("target_os") {
                value == std::env::consts::OS
            } else if pair.path.is_ident("target_arch") {
                value == std::env::consts::ARCH
            } else if pair.path.is_ident("target_pointer_width") {
                value == usize::BITS.to_string()
            } else if pair.path.is_ident("target_env") {
                value
                    == if cfg!(target_env = "gnu") {
                        "gnu"
                    } else if cfg!(target_env = "musl") {
                        "musl"
                    } else {
                        ""
                    }
            } else {
                panic!("tests/all/exports.rs does not know a condition on {value:?} yet")
            }
        }
        Meta::List(list) => {
            let parts = list
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .unwrap();
            let mut parts = parts.iter().map(holds);
            if list.path.is_ident("all") {
                parts.all(|part| part)
            } else if list.path.is_ident("any") {
                parts.any(|part| part)
            } else {
                !parts.all(|part| part)
            }
        }
        Meta::Path(_) => true,
    }
}

impl Exports {
    /// Reads a file; `children` is where the modules that it names are.
    fn read(&mut self, file: &Path, children: &Path) {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.items(&parsed.items, children);
    }

    fn items(&mut self, items: &[Item], children: &Path) {
        for item in items {
            match item {
                Item::Mod(module) if is_built(&module.attrs) => {
                    let name = module.ident.to_string();
                    let below = children.join(&name);
                    match &module.content {
                        Some((_, items)) => self.items(items, &below),
                        None if below.join("mod.rs").exists() => {
                            self.read(&below.join("mod.rs"), &below);
                        }
                        None => self.read(&below.with_extension("rs"), &below),
                    }
                }
                Item::Fn(function) if is_public(&function.vis) && is_built(&function.attrs) => {
                    self.functions.insert(function.sig.ident.to_string());
                }
                Item::Struct(item) if is_public(&item.vis) && is_built(&item.attrs) => {
                    self.types.insert(item.ident.to_string());
                }
                Item::Enum(item) if is_public(&item.vis) && is_built(&item.attrs) => {
                    self.types.insert(item.ident.to_string());
                }
                Item::Union(item) if is_public(&item.vis) && is_built(&item.attrs) => {
                    self.types.insert(item.ident.to_string());
                }
                Item::Trait(item) if is_public(&item.vis) && is_built(&item.attrs) => {
                    for function in &item.items {
                        if let TraitItem::Fn(function) = function {
                            self.functions
                                .insert(format!("{}::{}", item.ident, function.sig.ident));
                        }
                    }
                }
                Item::Impl(item) if is_built(&item.attrs) => {
                    let Some(name) = name_of(&item.self_ty) else {
                        continue;
                    };
                    if let Some((_, of_trait, _)) = &item.trait_ {
                        let of_trait = of_trait.segments.last().unwrap().ident.to_string();
                        self.implemented.push((name, of_trait));
                        continue;
                    }
                    for function in &item.items {
                        if let ImplItem::Fn(function) = function
                            && is_public(&function.vis)
                            && is_built(&function.attrs)
                        {
                            self.functions
                                .insert(format!("{name}::{}", function.sig.ident));
                        }
                    }
                }
                // The C functions of the domains are made by a macro, which is given their names.
                Item::Macro(item) if item.ident.is_none() && is_built(&item.attrs) => {
                    let tokens = item.mac.tokens.to_string();
                    let names = tokens.split(|c: char| !c.is_alphanumeric() && c != '_');
                    self.functions.extend(
                        names
                            .filter(|name| name.starts_with("offheap_"))
                            .map(str::to_owned),
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_list_has_what_is_public_and_nothing_else() {
    let exports = exports();
    for name in [
        "default_memory_pool",
        "Pool::limit",
        "BufferBuilder::append",
        "MemoryPool::allocate",
        "count_set_bits",
    ] {
        assert!(exports.functions.contains(name), "{name}");
    }
    // Private, `pub(crate)`, in a test module, or of a private type.
    for name in ["BufferBuilder::settle", "padded", "here", "Counts::new"] {
        assert!(!exports.functions.contains(name), "{name}");
    }
    assert_eq!(
        exports.functions.contains("offheap_mem_malloc"),
        cfg!(feature = "c-abi")
    );
    assert!(exports.traits.contains("BufferOutputStream as Write"));
    assert!(!exports.traits.contains("Control as Drop"));
}
