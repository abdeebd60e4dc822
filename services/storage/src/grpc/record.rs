use std::sync::Arc;

use prost_types::Timestamp;
use sonde_proto::schema::TABLES;
use sonde_proto::storage::v1::record_service_server::RecordService;
use sonde_proto::storage::v1::{
    ColumnInfo, CountRowsRequest, CountRowsResponse, ListTablesRequest, ListTablesResponse, TableInfo,
};
use sonde_runtime::clock::wall_us;
use tonic::{Request, Response, Status};

use super::blocking;
use crate::storage::Shared;

pub(super) struct Records(pub Arc<Shared>);

#[tonic::async_trait]
impl RecordService for Records {
    async fn list_tables(
        &self,
        _request: Request<ListTablesRequest>,
    ) -> Result<Response<ListTablesResponse>, Status> {
        let mut tables: Vec<TableInfo> = TABLES
            .iter()
            .map(|table| TableInfo {
                name: table.name.to_owned(),
                doc: table.doc.to_owned(),
                columns: table
                    .columns()
                    .into_iter()
                    .map(|column| ColumnInfo {
                        name: column.name.to_owned(),
                        r#type: column.kind.sqlite().to_owned(),
                        nullable: column.nullable,
                        doc: column.doc.to_owned(),
                    })
                    .collect(),
            })
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(ListTablesResponse { tables }))
    }

    async fn count_rows(
        &self,
        request: Request<CountRowsRequest>,
    ) -> Result<Response<CountRowsResponse>, Status> {
        let CountRowsRequest { crawl_id, visit_id } = request.into_inner();
        let shared = self.0.clone();
        let rows =
            blocking(move || shared.readers.counts(&crawl_id, visit_id).map_err(|e| e.status())).await?;
        let now = wall_us();
        Ok(Response::new(CountRowsResponse {
            rows,
            location: self.0.location.display().to_string(),
            read_at: Some(Timestamp {
                seconds: now.div_euclid(1_000_000),
                nanos: i32::try_from(now.rem_euclid(1_000_000) * 1000).unwrap_or_default(),
            }),
        }))
    }
}
