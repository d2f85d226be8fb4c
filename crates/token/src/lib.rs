//! Authority tokens: claims, signing, verification, JWKS, revocation list (pure; enforcement points embed it)
