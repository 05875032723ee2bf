//! How large a statement may be. Each operator nests the expression before it one deeper, and what walks through a statement
//! takes stack for each step, so that a statement of very many would end the process.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::QueryError;

/// Bytes of stack that a thread has on which statements are planned: enough for as many operators as are taken.
pub const STATEMENT_STACK: usize = 32 << 20;
/// Operators of a statement.
const OPERATORS_MAX: usize = 4000;

/// # Errors
/// A statement of too many operators.
pub(super) fn check_size(sql: &str) -> Result<(), QueryError> {
    // Every operator takes a character and something beside it.
    if sql.len() / 2 <= OPERATORS_MAX {
        return Ok(());
    }
    // What cannot be cut into words is told by the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    if operators <= OPERATORS_MAX {
        return Ok(());
    }
    Err(QueryError::Statement(format!(
        "the statement has {operators} operators, at most {OPERATORS_MAX} are taken: write `column IN (…)` for many times \
         `column = … OR`, or ask in several statements"
    )))
}

/// Whatever is no name, number or text, nor holds a list together.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::CASE
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::DIV
        ),
        Token::Whitespace(_)
        | Token::Comma
        | Token::SemiColon
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::EOF => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_operators_are_refused_and_long_lists_are_not() {
        let list: Vec<String> = (0..50_000).map(|n| format!("'host-{n}'")).collect();
        assert!(check_size(&format!("SELECT * FROM cpu WHERE host IN ({})", list.join(", "))).is_ok());
        for (operand, operator) in [
            ("1", "+"),
            ("a = 1", " OR "),
            ("SELECT 1", " UNION ALL "),
            ("'a'", "||"),
            ("a", "::TEXT::"),
            ("cpu", ", cpu JOIN "),
        ] {
            let statement = format!("SELECT {}", vec![operand; 9000].join(operator));
            let told = check_size(&statement).unwrap_err().to_string();
            assert!(told.contains("at most 4000"), "{operator}: {told}");
        }
        assert!(check_size(&format!("SELECT {}", ["1"; 4000].join("+"))).is_ok());
    }
}
