//! How an instruction set writes down its vectors' operations.

/// Methods of a type whose values prove that the processor has some features; their bodies may assume these.
macro_rules! operations {
    ($features:literal; $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $result)? {
            #[inline]
            #[target_feature(enable = $features)]
            fn body($($argument: $type),*) $(-> $result)? $body
            // SAFETY: a value of this type exists only where the processor has the features.
            unsafe { body($($argument),*) }
        }
    )*};
}

/// Implements [`Compiled`](super::Compiled) for a type that [`Lanes`](super::Lanes) is implemented for; with loops over
/// two panels where these are asked for.
macro_rules! compiled {
    ($lanes:ty, $features:literal $(, $two:ident)?) => {
        impl crate::packed::Compiled for $lanes {
            fn tiles<C: Codes>() -> TileKernels {
                fn one<C: Codes>(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
                    #[target_feature(enable = $features)]
                    fn body<C: Codes>(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
                        crate::packed::one::<$lanes, C>(<$lanes>::new(), panel, rows, tokens, tile);
                    }
                    // SAFETY: the table that holds this function is given out only where the processor has the features.
                    unsafe { body::<C>(panel, rows, tokens, tile) }
                }
                $(fn $two<C: Codes>(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, tiles: &mut [Tile; 2]) {
                    #[target_feature(enable = $features)]
                    fn body<C: Codes>(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, tiles: &mut [Tile; 2]) {
                        crate::packed::two::<$lanes, C>(<$lanes>::new(), panels, rows, tokens, tiles);
                    }
                    // SAFETY: as above.
                    unsafe { body::<C>(panels, rows, tokens, tiles) }
                })?
                TileKernels { $($two: Some($two::<C>),)? ..TileKernels::one(one::<C>) }
            }

            fn decode<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn body<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]) {
                    crate::packed::decode::<$lanes, C>(<$lanes>::new(), panel, cols, out);
                }
                // SAFETY: as above.
                unsafe { body::<C>(panel, cols, out) }
            }

            fn take<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn body<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]) {
                    crate::packed::take::<$lanes, C>(<$lanes>::new(), panel, cols, out);
                }
                // SAFETY: as above.
                unsafe { body::<C>(panel, cols, out) }
            }
        }
    };
}

pub(crate) use {compiled, operations};
