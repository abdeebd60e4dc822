//! Words that are not to be clicked, in whatever spelling.

use unicode_normalization::UnicodeNormalization;

/// Phrases of which each word is one token: those of English first, then German, Italian, French and Spanish.
pub const BLOCKED: &[&str] = &[
    "delete",
    "remove",
    "unsubscribe",
    "deactivate",
    "pay",
    "payment",
    "pay now",
    "checkout",
    "check out",
    "purchase",
    "buy",
    "cancel",
    "close account",
    "close my account",
    "close your account",
    "terminate account",
    "sign out",
    "signout",
    "sign off",
    "signoff",
    "log out",
    "logout",
    "log off",
    "logoff",
    "place order",
    "confirm order",
    "order now",
    "add to cart",
    "donate",
    "erase",
    "uninstall",
    "wipe",
    // German.
    "löschen",
    "entfernen",
    "abmelden",
    "abbestellen",
    "deaktivieren",
    "zahlen",
    "bezahlen",
    "bezahlung",
    "kasse",
    "kaufen",
    "jetzt kaufen",
    "bestellen",
    "abbrechen",
    "kündigen",
    "stornieren",
    "konto schließen",
    "ausloggen",
    "in den warenkorb",
    "spenden",
    // Italian.
    "elimina",
    "eliminare",
    "cancella",
    "rimuovi",
    "rimuovere",
    "disiscriviti",
    "disattiva",
    "paga",
    "pagare",
    "pagamento",
    "cassa",
    "acquista",
    "acquistare",
    "compra",
    "comprare",
    "annulla",
    "chiudi account",
    "chiudi il tuo account",
    "esci",
    "disconnetti",
    "disconnettersi",
    "ordina",
    "conferma ordine",
    "dona",
    // French.
    "supprimer",
    "effacer",
    "retirer",
    "désabonner",
    "désinscrire",
    "désactiver",
    "payer",
    "paiement",
    "caisse",
    "acheter",
    "annuler",
    "résilier",
    "fermer le compte",
    "déconnexion",
    "déconnecter",
    "se déconnecter",
    "commander",
    "passer commande",
    "faire un don",
    // Spanish.
    "eliminar",
    "borrar",
    "quitar",
    "darse de baja",
    "desactivar",
    "pagar",
    "pago",
    "caja",
    "comprar",
    "cancelar",
    "anular",
    "cerrar cuenta",
    "cerrar sesión",
    "salir",
    "desconectar",
    "realizar pedido",
    "confirmar pedido",
    "donar",
];

/// A phrase that is looked for in texts.
#[derive(Debug, Clone)]
pub struct Phrases(Vec<Vec<String>>);

impl Phrases {
    /// The built-in ones and more.
    pub fn blocked(more: &[String]) -> Self {
        let all = BLOCKED.iter().copied().chain(more.iter().map(String::as_str));
        Self(all.map(tokens).filter(|phrase| !phrase.is_empty()).collect())
    }

    pub fn of(all: &[&str]) -> Self {
        Self(all.iter().copied().map(tokens).collect())
    }

    /// The phrase that a text has in it, as whole words.
    pub fn in_text(&self, text: &str) -> Option<String> {
        let words = tokens(text);
        let found =
            self.0.iter().find(|phrase| words.windows(phrase.len()).any(|part| part == phrase.as_slice()));
        found.map(|phrase| phrase.join(" "))
    }
}

/// The words of a text or an identifier, folded: compatibility forms, case, accents, invisible characters, and letters
/// of other alphabets that look like Latin ones do not tell words apart.
pub fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut before_lower = false;
    for c in text.nfkd().filter(|c| !is_ignored(*c)) {
        // camelCase, as identifiers have it.
        let starts = !c.is_alphanumeric() || (c.is_uppercase() && before_lower);
        if starts && !token.is_empty() {
            tokens.push(std::mem::take(&mut token));
        }
        before_lower = c.is_lowercase();
        if c.is_alphanumeric() {
            for folded in c.to_lowercase() {
                push_latin(folded, &mut token);
            }
        }
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

/// Combining marks, and what is not seen: zero width, soft hyphens, directions, variation selectors.
fn is_ignored(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{180e}')
}

fn push_latin(c: char, token: &mut String) {
    let latin = match c {
        'ß' => return token.push_str("ss"),
        'æ' => return token.push_str("ae"),
        'œ' => return token.push_str("oe"),
        'ø' | 'о' | 'ο' => 'o',
        'ł' => 'l',
        'đ' | 'ԁ' => 'd',
        'ı' | 'і' | 'ι' => 'i',
        'а' | 'α' => 'a',
        'е' | 'ε' => 'e',
        'р' | 'ρ' => 'p',
        'с' => 'c',
        'у' | 'υ' => 'y',
        'х' | 'χ' => 'x',
        'ѕ' => 's',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'т' | 'τ' => 't',
        'в' | 'β' => 'b',
        'н' => 'h',
        'ν' => 'v',
        other => other,
    };
    token.push(latin);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocked(text: &str) -> Option<String> {
        Phrases::blocked(&[]).in_text(text)
    }

    /// D35: each of the seed's words, in every spelling.
    #[test]
    fn the_words_of_the_seed_are_blocked() {
        for word in [
            "delete",
            "remove",
            "unsubscribe",
            "deactivate",
            "pay",
            "checkout",
            "purchase",
            "buy",
            "cancel",
            "close account",
            "sign out",
            "log out",
        ] {
            let shouted = word.to_uppercase();
            let dashed = word.replace(' ', "-");
            let spread = word.replace(' ', "  \u{200b} ");
            for text in [word, &shouted, &dashed, &spread, &format!("Please {word} it!")] {
                assert!(blocked(text).is_some(), "{text}");
            }
        }
    }

    /// D36
    #[test]
    fn whole_words_are_matched() {
        for text in [
            "logout",
            "log-out",
            "signout",
            "sign-off",
            "Cancel subscription",
            "place order",
            "confirm order",
            "delete-account",
            "Buy now",
            "Pay",
            "btnDeleteAccount",
            "nav_log_out",
            "close_my_account",
            "PayNow",
        ] {
            assert!(blocked(text).is_some(), "{text}");
        }
        for text in [
            "display",
            "payload",
            "buyer guide",
            "Removed features",
            "blog",
            "out",
            "account",
            "catalog outing",
        ] {
            assert_eq!(blocked(text), None, "{text}");
        }
    }

    /// D37
    #[test]
    fn other_spellings_and_languages_are_blocked() {
        for text in [
            "ｄｅｌｅｔｅ",
            "De\u{ad}lete",
            "del\u{200b}ete",
            "dеlеtе",
            "DÉLETE",
            "𝐁𝐮𝐲",
            "Löschen",
            "LOSCHEN",
            "Konto schließen",
            "KONTO SCHLIESSEN",
            "Elimina",
            "disiscriviti",
            "Paga ora",
            "Acquista",
            "annulla",
            "Chiudi account",
            "Déconnexion",
            "se deconnecter",
            "Cerrar sesión",
            "Comprar ahora",
            "Supprimer",
        ] {
            assert!(blocked(text).is_some(), "{text}");
        }
        let more = Phrases::blocked(&["Book a call".to_owned()]);
        assert_eq!(more.in_text("book-a-call").as_deref(), Some("book a call"));
        assert!(more.in_text("delete").is_some(), "words are only added");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let words = tokens(&text);
            prop_assert!(words.iter().all(|word| !word.is_empty()));
        }

        #[test]
        fn a_blocked_word_is_found_wherever_it_stands(at in 0..BLOCKED.len(), before in "[ -/]{0,5}", after in "[ -/]{0,5}") {
            let text = format!("{before}{}{after}", BLOCKED[at]);
            prop_assert!(blocked(&text).is_some(), "{text:?}");
        }
    }
}
