//! Strings with `${…}` and `%{…}` in them.

use hcl_edit::expr::Expression;
use hcl_edit::template::{Directive, Element, ForDirective, IfDirective, Strip, Template};

use super::evaluate::{Evaluator, Result, exhausted};
use crate::packer::value::{Part, Text, Value};

/// A piece of a string that is being put together.
enum Piece {
    Literal(String),
    Value(Text),
    /// White space before it goes.
    TrimBefore,
    /// White space behind it goes.
    TrimAfter,
}

impl Evaluator<'_> {
    /// A template's value: what is nothing but one interpolation has the value of its expression.
    pub(super) fn template_value(&self, template: &Template) -> Result<Value> {
        let mut elements = template.iter();
        match (elements.next(), elements.next()) {
            (Some(Element::Interpolation(only)), None) => self.value(&only.expr),
            _ => self.template(template, 0).map(Value::Text),
        }
    }

    /// A template as a string. What is inside of directives is `indent` characters further to the left; the parser has
    /// moved the rest.
    pub(super) fn template(&self, template: &Template, indent: usize) -> Result<Text> {
        let mut pieces = Vec::new();
        self.pieces(template, (0, indent), &mut pieces)?;
        Ok(joined(pieces))
    }

    fn pieces(&self, template: &Template, (own, inner): (usize, usize), pieces: &mut Vec<Piece>) -> Result<()> {
        for element in template {
            match element {
                Element::Literal(text) => {
                    // HCL's scanner makes a token of each line, and a strip marker reaches as far as the next token.
                    for (at, line) in text.split_inclusive('\n').enumerate() {
                        let margin = line.chars().take(if at == 0 { 0 } else { own }).take_while(|c| *c == ' ').count();
                        self.push(Piece::Literal(line[margin..].to_owned()), line.len(), pieces)?;
                    }
                }
                Element::Interpolation(interpolation) => {
                    before(interpolation.strip, pieces);
                    let text = self.interpolated(&interpolation.expr)?;
                    let size = text.plain().len();
                    self.push(Piece::Value(text), size, pieces)?;
                    after(interpolation.strip, pieces);
                }
                Element::Directive(directive) => match &**directive {
                    Directive::If(directive) => self.conditional_pieces(directive, inner, pieces)?,
                    Directive::For(directive) => self.repeated_pieces(directive, inner, pieces)?,
                },
            }
        }
        Ok(())
    }

    fn push(&self, piece: Piece, size: usize, pieces: &mut Vec<Piece>) -> Result<()> {
        let taken = self.globals.budget.take(size + size_of::<Piece>());
        taken.map_err(|fault| exhausted(self.source.place(0), fault))?;
        pieces.push(piece);
        Ok(())
    }

    fn interpolated(&self, expression: &Expression) -> Result<Text> {
        let value = self.value(expression)?;
        self.text(&value, &|| self.source.place_of(expression))
    }

    fn conditional_pieces(&self, directive: &IfDirective, indent: usize, pieces: &mut Vec<Piece>) -> Result<()> {
        let (condition, otherwise) = (&directive.if_expr, &directive.else_expr);
        before(condition.strip, pieces);
        let end = directive.endif_expr.strip;
        if self.truth(&condition.cond_expr)? {
            after(condition.strip, pieces);
            self.pieces(&condition.template, (indent, indent), pieces)?;
            before(otherwise.as_ref().map_or(end, |otherwise| otherwise.strip), pieces);
        } else if let Some(otherwise) = otherwise {
            after(otherwise.strip, pieces);
            self.pieces(&otherwise.template, (indent, indent), pieces)?;
            before(end, pieces);
        }
        after(end, pieces);
        Ok(())
    }

    fn repeated_pieces(&self, directive: &ForDirective, indent: usize, pieces: &mut Vec<Piece>) -> Result<()> {
        let (loops, end) = (&directive.for_expr, directive.endfor_expr.strip);
        before(loops.strip, pieces);
        let key_name = loops.key_var.as_ref().map(|name| name.as_str());
        for turn in self.turns(&loops.collection_expr, key_name, loops.value_var.as_str())? {
            let inner = self.with(turn);
            let place = || self.source.place_of(&loops.collection_expr);
            let _level = self.globals.budget.enter().map_err(|fault| exhausted(place(), fault))?;
            after(loops.strip, pieces);
            inner.pieces(&loops.template, (indent, indent), pieces)?;
            before(end, pieces);
            self.learn(&inner);
        }
        after(end, pieces);
        Ok(())
    }
}

fn before(strip: Strip, pieces: &mut Vec<Piece>) {
    if matches!(strip, Strip::Start | Strip::Both) {
        pieces.push(Piece::TrimBefore);
    }
}

fn after(strip: Strip, pieces: &mut Vec<Piece>) {
    if matches!(strip, Strip::End | Strip::Both) {
        pieces.push(Piece::TrimAfter);
    }
}

fn joined(pieces: Vec<Piece>) -> Text {
    let mut parts: Vec<Part> = Vec::new();
    let mut trims = false;
    for piece in pieces {
        match piece {
            Piece::Literal(text) => {
                parts.push(Part::Literal(if trims { text.trim_start().to_owned() } else { text }));
                trims = false;
            }
            Piece::Value(text) => {
                parts.extend(text.0);
                trims = false;
            }
            Piece::TrimBefore => {
                if let Some(Part::Literal(text)) = parts.last_mut() {
                    text.truncate(text.trim_end().len());
                }
            }
            Piece::TrimAfter => trims = true,
        }
    }
    let mut text = Text::default();
    parts.into_iter().for_each(|part| text.push(part));
    text
}
