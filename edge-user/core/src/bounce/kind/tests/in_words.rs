//! Bounces and automatic replies by words, in many languages and charsets.

use super::of_standards::with;
use super::*;
use Confidence::{Certain, Likely, None as Unsure};

/// Plain bounces from an address as programs have it, in the words of many languages.
#[test]
fn a_bounce_that_calls_itself_an_automatic_reply_is_none_in_any_language() {
    let said = [
        ("Korean", "보내신 메일이 bob@far.example 님에게 전송되지 않았습니다."),
        ("Turkish", "Mesajınız bob@far.example adresine teslim edilemedi."),
        ("Turkish capitals", "MESAJINIZ İLETİLEMEDİ."),
        ("Swedish", "Ditt meddelande till bob@far.example kunde inte levereras."),
        ("Arabic", "تعذر تسليم رسالتك إلى bob@far.example"),
        ("Dutch", "Uw bericht aan bob@far.example kon niet worden bezorgd."),
        ("Polish", "Twoja wiadomość nie mogła zostać dostarczona."),
        ("Portuguese", "A sua mensagem não pôde ser entregue."),
        ("Czech", "Vaši zprávu nelze doručit."),
        ("Danish", "Din meddelelse kunne ikke leveres."),
        ("Norwegian", "Meldingen ble ikke levert."),
        ("Finnish", "Viestiäsi ei voitu toimittaa."),
        ("Hebrew", "לא ניתן היה למסור את הודעתך."),
        ("Ukrainian", "Ваше повідомлення не вдалося доставити."),
        ("Hungarian", "Az üzenetet nem sikerült kézbesíteni."),
        ("Greek", "Το μήνυμά σας δεν παραδόθηκε."),
        ("Italian", "Impossibile recapitare il messaggio."),
        ("French", "Votre message n’a pas pu être distribué."),
        ("Spanish", "Su mensaje no ha podido ser entregado."),
        ("Russian", "Не удалось доставить ваше письмо."),
        ("Chinese", "您的邮件无法投递。"),
        ("Japanese", "メールを配信できませんでした。"),
        ("a code of transport", "bob@far.example: SMTP"),
        ("tags", "<html><p>It could&nbsp;not be <i>deliv</i>ered</html>"),
    ];
    let field = "Auto-Submitted: auto-replied\r\n";
    // The second would make it certain: only the words speak against it.
    let answering = format!("{field}References: <1@a.example>\r\n");
    for (language, said) in said {
        for from in ["noreply@far.example", "Bob <bob@far.example>"] {
            for fields in [field, &answering] {
                let message = with(fields, &format!("{said}\r\n")).replace("Bob <bob@far.example>", from);
                let kind = kind_of(&message).0;
                assert!([Kind::Unknown, Kind::Failure].contains(&kind), "{language}: {kind:?}\n{message}");
            }
        }
    }
}

#[test]
fn rfc_3834s_field_needs_a_second_sign_of_a_reply() {
    let field = "Auto-Submitted: auto-replied\r\n";
    let unheard = "Ni nopelepele ke barua.\r\n";
    assert_eq!(kind_of(&with(field, unheard)), (Kind::Unknown, Unsure), "a language that nobody listed");
    for (more, body) in [
        ("Auto-Submitted: auto-replied (vacation)\r\n", unheard),
        ("Subject: Auto: Hello\r\n", unheard),
        ("Subject: Re: Frånvaro\r\n", unheard),
        ("Precedence: junk\r\n", unheard),
        ("X-Autoreply: yes\r\n", unheard),
        ("", "Jestem na urlopie.\r\n"),
        ("", "Thank you for your message.\r\n"),
    ] {
        let message = with(&format!("{more}{field}"), body);
        assert_eq!(kind_of(&message), (Kind::AutoReply, Likely), "{message}");
    }
    let robot = with(&format!("Precedence: bulk\r\n{field}"), unheard).replace("bob@", "no-reply@");
    assert_eq!(kind_of(&robot), (Kind::Unknown, Unsure));
}

/// The second sign may be a field, which needs no language: what answers a message is a reply, though no word of it is in
/// a table. Without a second sign it counts as a bounce.
#[test]
fn an_automatic_reply_that_answers_a_message_is_told_in_any_language() {
    let rows = [
        (
            "Korean",
            "회의 때문에",
            "안녕하세요. 12월 3일까지 휴가 중입니다. 급한 용건은 김민수에게 보내 주세요.",
        ),
        (
            "Turkish",
            "Şu anda buradayım değil",
            "Merhaba, 3 Aralık'a kadar izindeyim. Acil konular için bana ulaşamazsınız.",
        ),
        (
            "Finnish",
            "En ole paikalla",
            "Hei! Olen lomalla 3.12. asti, enkä voi lukea viestejä. Palaan asiaan.",
        ),
        ("Georgian", "არ ვარ ადგილზე", "გამარჯობა, შვებულებაში ვარ 3 დეკემბრამდე."),
    ];
    for (language, subject, text) in rows {
        let message = |fields: &str| {
            let charset = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
            with(&format!("Subject: {subject}\r\n{fields}{charset}"), &format!("{text}\r\n"))
        };
        let submitted = "Auto-Submitted: auto-replied\r\n";
        for answers in ["In-Reply-To: <1@example.jp>\r\n", "References: <1@example.jp>\r\n"] {
            let both = format!("{submitted}{answers}");
            assert_eq!(kind_of(&message(&both)), (Kind::AutoReply, Certain), "{language}");
            assert_eq!(
                kind_of(&message(answers)),
                (Kind::Unknown, Unsure),
                "{language}, one that a person wrote"
            );
        }
        let vacation = "Auto-Submitted: auto-replied (vacation)\r\n";
        assert_eq!(kind_of(&message(vacation)), (Kind::AutoReply, Likely), "{language}, Sieve's");
        let said = read([message(submitted).as_bytes()]);
        assert!(said.kind == Kind::AutoReply || said == Reading::default(), "{language}: {said:?}");
    }
    // As Exchange and Outlook write them there: the Subject is the second sign.
    for subject in ["자동 회신: 안녕하세요", "Otomatik yanıt: Merhaba", "Automaattinen vastaus: Hei"]
    {
        let fields = format!("Subject: {subject}\r\nAuto-Submitted: auto-replied\r\n");
        assert_eq!(kind_of(&with(&fields, "x\r\n")), (Kind::AutoReply, Likely), "{subject}");
    }
}

#[test]
fn words_are_found_in_every_charset_and_behind_any_style() {
    let kind = |fields: &str, body: &[u8]| {
        let answers = "Auto-Submitted: auto-replied\r\nReferences: <1@a.example>\r\n";
        let head = with(&format!("{answers}{fields}"), "");
        read([head.as_bytes(), body]).kind
    };
    let bounces = [Kind::Unknown, Kind::Failure];
    let rows: [(&str, &[u8]); 5] = [
        ("iso-8859-9", b"ula\xfet\xfdr\xfdlamad\xfd\r\n"),
        ("koi8-r", b"\xce\xc5 \xd5\xc4\xc1\xcc\xcf\xd3\xd8 \xc4\xcf\xd3\xd4\xc1\xd7\xc9\xd4\xd8"),
        ("iso-2022-jp", b"\x1b$BG[?.ITG=\x1b(B\r\n"),
        ("euc-kr", b"\xb9\xdf\xbc\xdb \xbd\xc7\xc6\xd0\r\n"),
        ("us-ascii", "ulaştırılamadı".as_bytes()),
    ];
    for (charset, body) in rows {
        let fields = format!("Content-Type: text/plain; charset={charset}\r\n");
        assert!(bounces.contains(&kind(&fields, body)), "{charset}");
    }
    let html = "Content-Type: text/html\r\n";
    let style = format!("<style>{}</style>", "p { margin: 0 } ".repeat(1000));
    assert!(bounces.contains(&kind(html, format!("{style}It was<br>not deliv<b>ered</b>").as_bytes())));
    assert_eq!(kind(html, format!("{style}<p>I walk in the mountains.").as_bytes()), Kind::AutoReply);
}
