//! The value of an expression.
//!
//! hcl-rs has an evaluator, too. This one keeps variables as variables, says where in the expression a fault is, and
//! takes no more time and memory than a [`Budget`] allows, however the template was made.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hcl_edit::expr::{
    BinaryOp, BinaryOperator, Conditional, Expression, ForExpr, FuncCall, ObjectKey, Traversal, TraversalOperator,
    UnaryOperator,
};
use hcl_edit::{Decorated, Span};
use indexmap::IndexMap;

use super::functions;
use super::globals::{Globals, secret};
use super::source::Source;
use crate::error::{Location, Problem};
use crate::packer::budget::Exhausted;
use crate::packer::value::{Text, Value, exact};
use crate::template::nearest::suggestion;

/// A value, or what is wrong where.
pub(super) type Result<T, E = Problem> = std::result::Result<T, E>;

/// What the expressions of one file see.
#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    pub(super) source: &'a Source,
    pub(super) globals: &'a Globals<'a>,
    /// Variables of loops and of `templatefile`, the innermost last.
    pub(super) locals: Vec<(String, Value)>,
    /// Variables whose values became part of a result that no longer names them.
    pub(super) fixed: RefCell<BTreeSet<String>>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(source: &'a Source, globals: &'a Globals<'a>) -> Self {
        Self { source, globals, locals: Vec::new(), fixed: RefCell::default() }
    }

    /// The same with more variables.
    pub(super) fn with(&self, more: impl IntoIterator<Item = (String, Value)>) -> Evaluator<'a> {
        let mut locals = self.locals.clone();
        locals.extend(more);
        Evaluator { source: self.source, globals: self.globals, locals, fixed: RefCell::default() }
    }

    /// Takes over which variables another one's results are made of.
    pub(super) fn learn(&self, other: &Evaluator<'_>) {
        self.fixed.borrow_mut().append(&mut other.fixed.borrow_mut());
    }

    /// The value of `expression`.
    pub(super) fn value(&self, expression: &Expression) -> Result<Value> {
        let place = || self.source.place_of(expression);
        let _level = self.globals.budget.enter().map_err(|fault| exhausted(place(), fault))?;
        let value = match expression {
            Expression::Null(_) => Value::Null,
            Expression::Bool(value) => Value::Bool(**value),
            Expression::Number(value) => {
                let number = exact(value.as_f64().unwrap_or_default());
                Value::Number(number.map_err(|message| Problem::at(place(), message).hint("write it as a string"))?)
            }
            Expression::String(text) => Value::from(text.as_str()),
            Expression::Array(items) => Value::List(items.iter().map(|item| self.value(item)).collect::<Result<_>>()?),
            Expression::Object(object) => {
                let entries = object.iter().map(|(key, value)| Ok((self.key(key)?, self.value(value.expr())?)));
                Value::Map(entries.collect::<Result<_>>()?)
            }
            Expression::StringTemplate(template) => self.template_value(template)?,
            Expression::HeredocTemplate(heredoc) => {
                Value::Text(self.template(&heredoc.template, heredoc.indent().unwrap_or(0))?)
            }
            Expression::Parenthesis(inner) => self.value(inner.inner())?,
            Expression::Variable(name) => self.variable(name.as_str(), expression)?,
            Expression::Conditional(conditional) => self.conditional(conditional)?,
            Expression::FuncCall(call) => self.call(call, expression)?,
            Expression::Traversal(traversal) => self.traversal(traversal)?,
            Expression::UnaryOp(operation) => self.unary(*operation.operator, &operation.expr)?,
            Expression::BinaryOp(operation) => self.binary(operation)?,
            Expression::ForExpr(expression) => self.for_expression(expression)?,
        };
        self.globals.budget.take(value.size()).map_err(|fault| exhausted(place(), fault))?;
        Ok(value)
    }

    /// The value without the names of variables, for what has to compute with it.
    pub(super) fn fix(&self, value: &Value, place: &impl Fn() -> Location) -> Result<Value> {
        let mut names = Vec::new();
        value.names(&mut names);
        for name in names {
            if self.globals.sensitive.contains(&name) {
                self.globals.budget.refuse();
                return Err(secret(&name, place()));
            }
            if self.globals.unset.contains(&name) {
                let message = format!("`{name}` of the process environment is not set, and this is computed of it");
                self.globals.budget.refuse();
                let hint = "set it, or give the variable's value with --var";
                return Err(Problem::at(place(), message).hint(hint));
            }
            self.fixed.borrow_mut().insert(name);
        }
        Ok(value.plain())
    }

    pub(super) fn plain(&self, expression: &Expression) -> Result<Value> {
        let value = self.value(expression)?;
        self.fix(&value, &|| self.source.place_of(expression))
    }

    pub(super) fn truth(&self, expression: &Expression) -> Result<bool> {
        let value = self.plain(expression)?;
        value.is_true().filter(|_| !matches!(value, Value::Number(_))).ok_or_else(|| {
            let message = format!("expected a boolean, found {}", value.kind());
            Problem::at(self.source.place_of(expression), message)
        })
    }

    pub(super) fn key(&self, key: &ObjectKey) -> Result<String> {
        match key {
            ObjectKey::Ident(name) => Ok(name.as_str().to_owned()),
            ObjectKey::Expression(expression) => self
                .plain(expression)?
                .to_plain()
                .ok_or_else(|| Problem::at(self.source.place_of(expression), "a key must be a string")),
        }
    }

    fn variable(&self, name: &str, expression: &Expression) -> Result<Value> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return Ok(value.clone());
        }
        let known = self.locals.iter().map(|(name, _)| name.as_str());
        let problem = Problem::at(self.source.place_of(expression), format!("undefined variable `{name}`"));
        let hint = suggestion(name, known.chain(["var", "local", "path"]).collect::<Vec<_>>());
        Err(hint.map_or(problem.clone(), |hint| problem.hint(hint)))
    }

    fn conditional(&self, conditional: &Conditional) -> Result<Value> {
        let chosen = if self.truth(&conditional.cond_expr)? { &conditional.true_expr } else { &conditional.false_expr };
        self.value(chosen)
    }

    fn call(&self, call: &FuncCall, expression: &Expression) -> Result<Value> {
        let name = call.name.name.as_str();
        if let "try" | "can" = name {
            return self.tried(name == "can", call, expression);
        }
        let mut arguments = Vec::new();
        for (at, argument) in call.args.iter().enumerate() {
            let value = self.value(argument)?;
            match value.inner() {
                Value::List(items) | Value::Set(items) if call.args.expand_final() && at + 1 == call.args.len() => {
                    arguments.extend(items.iter().cloned());
                }
                _ => arguments.push(value),
            }
        }
        functions::call(self, name, &arguments, &|| self.source.place_of(expression))
    }

    /// `try` and `can`: what only the import refuses is no fault of the template, and not tried.
    fn tried(&self, can: bool, call: &FuncCall, expression: &Expression) -> Result<Value> {
        for argument in call.args.iter() {
            match self.globals.budget.refuses(|| self.value(argument)) {
                (Ok(_), _) if can => return Ok(Value::Bool(true)),
                (Err(problem), true) => return Err(problem),
                (Err(_), false) => {}
                (found, _) => return found,
            }
        }
        if can {
            return Ok(Value::Bool(false));
        }
        Err(Problem::at(self.source.place_of(expression), "none of these expressions has a value"))
    }

    fn traversal(&self, traversal: &Traversal) -> Result<Value> {
        let operators = &traversal.operators[..];
        if let (Expression::Variable(root), [first, rest @ ..]) = (&traversal.expr, operators)
            && let TraversalOperator::GetAttr(name) = first.value()
            && !self.locals.iter().any(|(local, _)| local == root.as_str())
        {
            let place = || self.source.place_of(traversal);
            let value = self.globals.get(root.as_str(), name.as_str(), &place, self)?;
            return self.apply(value, rest, traversal);
        }
        let value = self.value(&traversal.expr)?;
        self.apply(value, operators, traversal)
    }

    fn apply(&self, value: Value, operators: &[Decorated<TraversalOperator>], whole: &Traversal) -> Result<Value> {
        let Some((first, rest)) = operators.split_first() else { return Ok(value) };
        let place = || first.span().map_or_else(|| self.source.place_of(whole), |span| self.source.place(span.start));
        let next = match first.value() {
            TraversalOperator::GetAttr(name) => element(&value, &Value::from(name.as_str())),
            TraversalOperator::Index(index) => element(&value, &self.plain(index)?),
            TraversalOperator::LegacyIndex(index) => {
                element(&value, &Value::Number(f64::from(u32::try_from(**index).unwrap_or(u32::MAX))))
            }
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                let items = match value.inner() {
                    Value::List(items) | Value::Set(items) => items.clone(),
                    Value::Null => Vec::new(),
                    other => vec![other.clone()],
                };
                self.globals.budget.take(value.size()).map_err(|fault| exhausted(place(), fault))?;
                let all = items.into_iter().map(|item| self.apply(item, rest, whole));
                return Ok(Value::List(all.collect::<Result<_>>()?));
            }
        };
        self.apply(next.map_err(|message| Problem::at(place(), message))?, rest, whole)
    }

    fn unary(&self, operator: UnaryOperator, expression: &Expression) -> Result<Value> {
        match operator {
            UnaryOperator::Not => self.truth(expression).map(|truth| Value::Bool(!truth)),
            UnaryOperator::Neg => self.number(expression).map(|number| Value::Number(-number)),
        }
    }

    fn number(&self, expression: &Expression) -> Result<f64> {
        let value = self.plain(expression)?;
        functions::number(&value).map_err(|message| Problem::at(self.source.place_of(expression), message))
    }

    fn binary(&self, operation: &BinaryOp) -> Result<Value> {
        use BinaryOperator::{And, Div, Eq, Greater, GreaterEq, Less, LessEq, Minus, Mod, Mul, NotEq, Or, Plus};
        let (left, right) = (&operation.lhs_expr, &operation.rhs_expr);
        let operator = *operation.operator.value();
        Ok(match operator {
            Eq => Value::Bool(self.plain(left)? == self.plain(right)?),
            NotEq => Value::Bool(self.plain(left)? != self.plain(right)?),
            And => Value::Bool(self.truth(left)? & self.truth(right)?),
            Or => Value::Bool(self.truth(left)? | self.truth(right)?),
            Less | LessEq | Greater | GreaterEq => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                Value::Bool(match operator {
                    Less => left < right,
                    LessEq => left <= right,
                    Greater => left > right,
                    _ => left >= right,
                })
            }
            Plus | Minus | Mul | Div | Mod => {
                let (first, second) = (self.number(left)?, self.number(right)?);
                if matches!(operator, Div | Mod) && second == 0.0 {
                    return Err(Problem::at(self.source.place_of(right), "division by zero"));
                }
                let result = exact(match operator {
                    Plus => first + second,
                    Minus => first - second,
                    Mul => first * second,
                    Div => first / second,
                    _ => first % second,
                });
                Value::Number(result.map_err(|message| Problem::at(self.source.place_of(left), message))?)
            }
        })
    }

    fn for_expression(&self, whole: &ForExpr) -> Result<Value> {
        let intro = &whole.intro;
        let key_name = intro.key_var.as_ref().map(|name| name.as_str());
        let turns = self.turns(&intro.collection_expr, key_name, intro.value_var.as_str())?;
        let mut list = Vec::new();
        let mut map: IndexMap<String, Value> = IndexMap::new();
        for turn in turns {
            let inner = self.with(turn);
            let wanted = whole.cond.as_ref().map_or(Ok(true), |cond| inner.truth(&cond.expr))?;
            if wanted {
                let value = inner.value(&whole.value_expr)?;
                match &whole.key_expr {
                    None => list.push(value),
                    Some(key) => {
                        let place = || self.source.place_of(key);
                        let key = inner.plain(key)?.to_plain();
                        let key = key.ok_or_else(|| Problem::at(place(), "a key must be a string"))?;
                        insert(&mut map, key, value, whole.grouping);
                    }
                }
            }
            self.learn(&inner);
        }
        Ok(if whole.key_expr.is_some() { Value::Map(map) } else { Value::List(list) })
    }

    /// The variables of each turn of a loop.
    pub(super) fn turns(
        &self,
        collection: &Expression,
        key_name: Option<&str>,
        value_name: &str,
    ) -> Result<Vec<Vec<(String, Value)>>> {
        let value = self.value(collection)?;
        let place = || self.source.place_of(collection);
        let pairs: Vec<(Value, Value)> = match value.inner() {
            Value::List(items) => {
                let keys = (0..items.len()).map(|at| Value::Number(f64::from(u32::try_from(at).unwrap_or(u32::MAX))));
                keys.zip(items.iter().cloned()).collect()
            }
            // The key of a set's element is the element.
            Value::Set(items) => items.iter().map(|item| (item.clone(), item.clone())).collect(),
            Value::Map(map) => {
                // HCL's mappings have no order but that of their keys.
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                entries.into_iter().map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect()
            }
            other => {
                let message = format!("expected a list or a mapping, found {}", other.kind());
                return Err(Problem::at(place(), message));
            }
        };
        // Each turn has a copy of what is around it.
        let around: usize = self.locals.iter().map(|(_, value)| value.size()).sum();
        let size = value.size().saturating_add(around.saturating_mul(pairs.len()));
        self.globals.budget.take(size).map_err(|fault| exhausted(place(), fault))?;
        let turn = |(key, value): (Value, Value)| {
            let key = key_name.map(|name| (name.to_owned(), key));
            key.into_iter().chain([(value_name.to_owned(), value)]).collect()
        };
        Ok(pairs.into_iter().map(turn).collect())
    }

    /// A string as one; other scalars as HCL writes them.
    pub(super) fn text(&self, value: &Value, place: &impl Fn() -> Location) -> Result<Text> {
        value.to_text().ok_or_else(|| Problem::at(place(), format!("expected a string, found {}", value.kind())))
    }
}

fn insert(map: &mut IndexMap<String, Value>, key: String, value: Value, grouping: bool) {
    if !grouping {
        map.insert(key, value);
    } else if let Value::List(items) = map.entry(key).or_insert_with(|| Value::List(Vec::new())) {
        items.push(value);
    }
}

pub(super) fn exhausted(place: Location, fault: Exhausted) -> Problem {
    Problem::at(place, fault.0)
}

/// The element of a list or a mapping.
pub(super) fn element(value: &Value, index: &Value) -> std::result::Result<Value, String> {
    match (value.inner(), index) {
        (Value::List(items), index) => {
            let at = functions::number(index)?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturating")]
            let found = (at >= 0.0 && at.fract() == 0.0).then(|| items.get(at as usize)).flatten();
            found.cloned().ok_or_else(|| format!("the list has {} elements and no [{}]", items.len(), at))
        }
        (Value::Map(map), index) => {
            let key = index.to_plain().ok_or("a key must be a string")?;
            map.get(&key).cloned().ok_or_else(|| match suggestion(&key, map.keys().map(String::as_str)) {
                Some(hint) => format!("there is no `{key}`; {hint}"),
                None => format!("there is no `{key}`"),
            })
        }
        (other, _) => Err(format!("{} has no elements", other.kind())),
    }
}
