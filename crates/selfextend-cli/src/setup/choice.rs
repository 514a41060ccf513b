//! What extends the window: a method that was asked for, a profile, or the automatic rule.

use crate::args::model::ModelArgs;
use crate::error::{CliError, Result};
use crate::output;
use selfextend::profile::Profile;
use selfextend::settings::{SettingsError, max_context};
use selfextend::{ContextRequest, Extension, Method};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// How extensions are chosen.
pub struct Choice {
    wanted: Wanted,
    /// What was asked for with --context.
    context: Option<usize>,
}

enum Wanted {
    /// One method at any length: --plain, --method, or --profile with the context it was found for.
    Method {
        method: Method,
        found_for: Option<usize>,
    },
    /// The automatic rule; beyond the trained window, a profile beside the model comes first.
    Automatic {
        request: ContextRequest,
        model: Option<PathBuf>,
        beside: OnceCell<Option<Box<Found>>>,
    },
}

/// An extension, and whether the text alone made the context longer than the trained window.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub extension: Extension,
    pub by_itself: bool,
}

impl Choice {
    /// What the arguments ask for; `model` is the model's file, which may have a profile beside it.
    pub fn new(args: &ModelArgs, model: Option<&Path>) -> Result<Self> {
        let method = |method, found_for| Wanted::Method { method, found_for };
        let wanted = if args.plain {
            method(Method::plain(), None)
        } else if let Some(asked) = &args.method {
            method(asked.clone(), None)
        } else if let (Some(path), Some(model)) = (&args.load.profile, model) {
            let (profile, found) = Profile::load_for(path, model)?;
            method(found, Some(profile.context))
        } else {
            let mut request = ContextRequest::new().with_no_extend(args.no_extend);
            request.context = args.context;
            request.group_size = args.group_size;
            request.neighbor_window = args.neighbor_window;
            let is_asked = args.group_size.is_some() || args.neighbor_window.is_some();
            let unwanted = args.load.no_profile || is_asked || args.no_extend;
            Wanted::Automatic {
                request,
                model: model.filter(|_| !unwanted).map(Path::to_owned),
                beside: OnceCell::new(),
            }
        };
        Ok(Self {
            wanted,
            context: args.context,
        })
    }

    /// The extension for a text of `needed` tokens. Within the trained window it runs plain unless a
    /// method, a profile or a group size was asked for.
    pub fn for_text(&self, needed: usize, trained: usize) -> Result<Chosen> {
        let extension = match &self.wanted {
            Wanted::Method { method, found_for } => {
                let found_for = found_for.map(|context| context.max(needed));
                let context = self.context.or(found_for).unwrap_or(needed.max(trained));
                if needed > context {
                    return Err(SettingsError::TooShort { needed, context }.into());
                }
                return Ok(Chosen {
                    extension: method.resolve(trained, context)?,
                    by_itself: false,
                });
            }
            Wanted::Automatic { request, .. } => {
                let fits = self.context.is_none_or(|context| needed <= context);
                let beside = if fits && needed > trained {
                    self.beside(self.context, needed, trained)?
                } else {
                    None
                };
                match beside {
                    Some(extension) => extension,
                    None => request.with_needed(needed).resolve(trained)?,
                }
            }
        };
        Ok(Chosen {
            by_itself: self.context.is_none() && extension.context() > trained,
            extension,
        })
    }

    /// Whether nothing keeps the context of an extension from being a shorter one.
    pub fn is_free(&self, extension: &Extension) -> bool {
        self.context.is_none() && !extension.extends()
    }

    /// The extension for sequences of up to `context` tokens, however short their texts are.
    pub fn for_context(&self, context: usize, trained: usize) -> Result<Extension> {
        match &self.wanted {
            Wanted::Method { method, .. } => Ok(method.resolve(trained, context)?),
            Wanted::Automatic { request, .. } => {
                let beside = if context > trained {
                    self.beside(Some(context), 0, trained)?
                } else {
                    None
                };
                match beside {
                    Some(extension) => Ok(extension),
                    None => Ok(request.with_context(context).resolve(trained)?),
                }
            }
        }
    }

    /// The context that was asked for: directly, or as the limit of the group size asked for.
    pub fn asked_context(&self, trained: usize) -> Option<usize> {
        let limit = || match &self.wanted {
            Wanted::Automatic { request, .. } if !request.no_extend => {
                let window = request.neighbor_window.unwrap_or(trained / 4);
                request
                    .group_size
                    .map(|group_size| max_context(group_size, window, trained))
            }
            _ => None,
        };
        self.context.or_else(limit)
    }

    /// Whether extending beyond the trained window was ruled out.
    pub fn stays_within(&self) -> bool {
        match &self.wanted {
            Wanted::Method { method, .. } => *method == Method::plain(),
            Wanted::Automatic { request, .. } => request.no_extend,
        }
    }

    /// Under a profile beside the model; `None` if there is none, or it does not reach.
    fn beside(
        &self,
        context: Option<usize>,
        needed: usize,
        trained: usize,
    ) -> Result<Option<Extension>> {
        let Wanted::Automatic { model, beside, .. } = &self.wanted else {
            return Ok(None);
        };
        let Some(model) = model else {
            return Ok(None);
        };
        if beside.get().is_none() {
            let _ = beside.set(Found::beside(model)?.map(Box::new));
        }
        let Some(found) = beside.get().and_then(Option::as_deref) else {
            return Ok(None);
        };
        let context = context.unwrap_or(found.profile.context.max(needed));
        match found.method.resolve(trained, context) {
            Ok(extension) => {
                found.say("");
                Ok(Some(extension))
            }
            Err(_) => {
                found.say(&format!(
                    ", which does not reach {context} tokens and is ignored"
                ));
                Ok(None)
            }
        }
    }
}

/// A profile that was found beside a model.
pub struct Found {
    path: PathBuf,
    profile: Profile,
    /// Its method.
    pub method: Method,
}

impl Found {
    /// The profile beside a model's file or folder, if there is one.
    pub fn beside(model: &Path) -> Result<Option<Self>> {
        let path = Profile::beside(model);
        if !path.exists() {
            return Ok(None);
        }
        let (profile, method) = Profile::load_for(&path, model).map_err(|error| {
            CliError::failure(format!(
                "{error}; delete it, or ignore it with --no-profile"
            ))
        })?;
        Ok(Some(Self {
            path,
            profile,
            method,
        }))
    }

    /// Notes once that it is used, and `more`.
    pub fn say(&self, more: &str) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            output::note(&format!(
                "note: {} says {}{more} (--no-profile ignores it)",
                self.path.display(),
                self.method
            ));
        });
    }
}
