//! Builder methods of option structs.

/// One method for each public field: `with_field(self, field) -> Self`.
macro_rules! with_fields {
    ($($(#[$doc:meta])* $method:ident($field:ident: $type:ty);)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $method(self, $field: $type) -> Self {
                Self { $field, ..self }
            }
        )*
    };
}

pub(crate) use with_fields;
