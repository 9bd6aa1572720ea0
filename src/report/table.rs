//! A table of texts, for the terminal, as CSV and as a picture.

use super::svg::escape;
use crate::error::{Error, Result};

/// Rows under a header; all as long as it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Above the picture.
    pub title: String,
    /// Names of columns.
    pub header: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Whether a column holds texts, which are set from the left; numbers are set from the right.
    pub fn is_text(&self, column: usize) -> bool {
        let number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        !self.rows.iter().all(|row| row.get(column).is_none_or(number))
    }

    fn widths(&self) -> Vec<usize> {
        let wide = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.chain(self.header.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.header.len()).map(wide).collect()
    }

    /// Aligned lines.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let line = |row: &Vec<String>| {
            let cell = |(column, cell): (usize, &String)| {
                let gap = " ".repeat(widths.get(column).map_or(0, |w| w.saturating_sub(cell.chars().count())));
                if self.is_text(column) { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        std::iter::once(&self.header).chain(&self.rows).map(line).collect()
    }

    /// Comma-separated values with the header.
    ///
    /// # Errors
    /// If a row has another length than the header.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let fail = |e: String| Error::invalid("table", e);
        let mut writer = csv::Writer::from_writer(vec![]);
        for row in std::iter::once(&self.header).chain(&self.rows) {
            writer.write_record(row).map_err(|e| fail(e.to_string()))?;
        }
        writer.into_inner().map_err(|e| fail(e.to_string()))
    }

    /// A picture in SVG.
    pub fn svg(&self) -> String {
        const LINE: usize = 22;
        const LETTER: f64 = 7.2;
        let widths = self.widths();
        let wide = |w: &usize| *w as f64 * LETTER + 18.0;
        let width = widths.iter().map(wide).sum::<f64>() + 16.0;
        let height = LINE * (self.rows.len() + 1) + 44;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" viewBox=\"0 0 {width:.0} {height}\" \
             font-family=\"monospace\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"12\" y=\"22\" font-family=\"sans-serif\" font-size=\"14\">{}</text>\n",
            escape(&self.title)
        );
        for (number, row) in std::iter::once(&self.header).chain(&self.rows).enumerate() {
            let y = 50 + LINE * number;
            if number == 0 {
                svg += &format!("<path d=\"M8 {}H{:.0}\" stroke=\"black\"/>\n", y + 7, width - 8.0);
            } else if number % 2 == 0 {
                let top = y - 15;
                svg += &format!(
                    "<rect x=\"8\" y=\"{top}\" width=\"{:.0}\" height=\"{LINE}\" fill=\"#f0f4f8\"/>\n",
                    width - 16.0
                );
            }
            let mut x = 16.0;
            for (column, cell) in row.iter().enumerate() {
                let own = widths.get(column).map_or(0.0, wide);
                let (at, anchor) = if self.is_text(column) { (x, "start") } else { (x + own - 18.0, "end") };
                svg += &format!("<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n", escape(cell));
                x += own;
            }
        }
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_in_three_forms() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = Table {
            title: "a <b>".into(),
            header: row(["name", "error", "net"]),
            rows: vec![row(["chosen", "9.5", "|a~0|"]), row(["x", "10.25", "b,c"])],
        };
        assert_eq!(table.text(), "name    error  net\nchosen    9.5  |a~0|\nx       10.25  b,c\n");
        assert_eq!(
            String::from_utf8(table.csv().unwrap()).unwrap(),
            "name,error,net\nchosen,9.5,|a~0|\nx,10.25,\"b,c\"\n"
        );
        let svg = table.svg();
        assert!(svg.contains("a &lt;b&gt;") && svg.matches("<text").count() == 10 && svg.ends_with("</svg>\n"));
        let crooked = Table { rows: vec![row(["a", "1", "b"])[..2].to_vec()], ..table };
        assert!(crooked.csv().is_err());
    }
}
