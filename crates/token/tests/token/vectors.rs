//! Published examples. Their tokens carry no `typ`, so a verifier of authority tokens refuses them
//! as a whole; what they fix is keys, thumbprints, encoding and, through the signer, signatures.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use intended_token::{Alg, Jwk, JwkError, JwkSet, KeySet, TokenSigner as _, base64url, from_base64url, issue};

use crate::fixture::{ACCEPTED, EC_D, EC_X, EC_Y, ED_D, ED_X, RSA_N, bytes, claims, code, cut, key};

/// RFC 7515 appendices A.1 to A.3 share it.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const EC_SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

fn jwk(text: &str) -> Jwk {
    serde_json::from_str(text).unwrap()
}

#[test]
fn rfc8037_a1_the_private_ed25519_key_is_refused_as_a_verification_key() {
    let private = jwk(&format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k","d":"{ED_D}","x":"{ED_X}"}}"#));
    let refused = KeySet::from_jwks(&JwkSet { keys: vec![private.clone()] }).unwrap_err();
    assert_eq!(refused, JwkError::Private("k".to_owned()));
    assert!(!serde_json::to_string(&private).unwrap().contains(ED_D), "a private member is never written out");
}

#[test]
fn rfc8037_a2_the_public_ed25519_key_is_that_of_the_private_one() {
    let public = &key(Alg::EdDSA).jwk;
    assert_eq!(public.x.as_deref(), Some(ED_X));
    assert_eq!((public.kty.as_str(), public.crv.as_deref()), ("OKP", Some("Ed25519")));
}

#[test]
fn rfc8037_a3_the_ed25519_thumbprint_is_the_key_id() {
    assert_eq!(Jwk::ed25519(&bytes(ED_X)).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn rfc8037_a4_ed25519_signs_to_the_published_bytes() {
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(base64url(br#"{"alg":"EdDSA"}"#), "eyJhbGciOiJFZERTQSJ9");
    assert_eq!(base64url(b"Example of Ed25519 signing"), "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
    assert_eq!(base64url(&key(Alg::EdDSA).sign(message.as_bytes()).unwrap()), signature);
    assert_eq!(code(&format!("{message}.{signature}")), "token.type");
}

#[test]
fn rfc7515_a1_a_token_under_a_shared_secret_is_refused() {
    let token =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(code(&token), "token.type");
}

#[test]
fn rfc7515_a2_rs256_signs_to_the_published_bytes() {
    let message = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}");
    assert_eq!(base64url(&key(Alg::Rs256).sign(message.as_bytes()).unwrap()), RSA_SIGNATURE);
    assert_eq!(code(&format!("{message}.{RSA_SIGNATURE}")), "token.type");
    let public = jwk(&format!(r#"{{"kty":"RSA","alg":"RS256","kid":"","n":"{RSA_N}","e":"AQAB"}}"#));
    assert_eq!(public.thumbprint(), key(Alg::Rs256).kid());
}

#[test]
fn rfc7515_a3_es256_keys_and_signatures_are_the_published_ones() {
    let public = &key(Alg::Es256).jwk;
    assert_eq!((public.x.as_deref(), public.y.as_deref()), (Some(EC_X), Some(EC_Y)));
    let message = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}");
    let signature = bytes(EC_SIGNATURE);
    // The form that a JWS carries is r and s, 32 bytes each: the primitive behind the key set takes it.
    let point = [&[4][..], &bytes(EC_X), &bytes(EC_Y)].concat();
    let primitive = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    assert!(primitive.verify(message.as_bytes(), &signature).is_ok());
    assert_eq!(code(&format!("{message}.{EC_SIGNATURE}")), "token.type");
    let private =
        jwk(&format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES256","kid":"k","x":"{EC_X}","y":"{EC_Y}","d":"{EC_D}"}}"#));
    let refused = KeySet::from_jwks(&JwkSet { keys: vec![private] }).unwrap_err();
    assert_eq!(refused, JwkError::Private("k".to_owned()));
}

#[test]
fn rfc7515_a5_an_unsecured_token_is_refused() {
    assert_eq!(code(&format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.")), "token.malformed");
}

#[test]
fn rfc7515_a7_the_json_serialization_is_refused() {
    let token = format!(
        r#"{{"payload":"{PAYLOAD}","protected":"eyJhbGciOiJFUzI1NiJ9","header":{{"kid":"{}"}},"signature":"{EC_SIGNATURE}"}}"#,
        key(Alg::Es256).kid()
    );
    assert_eq!(code(&token), "token.malformed");
}

#[test]
fn rfc7515_c_base64url_is_the_published_one() {
    assert_eq!(base64url(&[3, 236, 255, 224, 193]), "A-z_4ME");
    assert_eq!(from_base64url("A-z_4ME"), Some(vec![3, 236, 255, 224, 193]));
    for other in ["A-z_4ME=", "A+z/4ME", "A-z_4MF", " A-z_4ME", "A-z_4ME\n", "A-z_4M", "A-z_4", "é"] {
        assert_eq!(from_base64url(other), None, "{other}");
    }
}

#[test]
fn rfc7638_3_1_the_rsa_thumbprint_is_taken_over_the_required_members_only() {
    let public = jwk(
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
    );
    assert_eq!(public.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(public.kid, "2011-04-29");
}

/// Written by another implementation (Python, pyca/cryptography 48) from the same claims and keys.
const FOREIGN: [(Alg, &str); 3] = [
    (Alg::EdDSA, include_str!("foreign/eddsa.jwt")),
    (Alg::Es256, include_str!("foreign/es256.jwt")),
    (Alg::Rs256, include_str!("foreign/rs256.jwt")),
];

#[test]
fn a_token_of_another_implementation_verifies() {
    for (alg, token) in FOREIGN {
        assert_eq!(code(token.trim_end()), ACCEPTED, "{alg:?}");
    }
}

#[test]
fn a_token_is_the_same_bytes_as_another_implementation_writes() {
    for (alg, token) in FOREIGN {
        let (ours, theirs) = (issue(&claims(), key(alg)).unwrap(), token.trim_end());
        // An ECDSA signature is another one each time.
        if alg == Alg::Es256 {
            assert_eq!(cut(&ours).0, cut(theirs).0);
        } else {
            assert_eq!(ours, theirs);
        }
    }
}
